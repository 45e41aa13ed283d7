"""What the similarity of a paragraph's and its copy's gradients declares."""

from localize.measurements.declaration import Measurement, Variable

GRADIENT = ("layer", "component")


MEASUREMENT = Measurement(
    "copy_similarity", words="gradient similarity of paragraphs and their copies", place=12, asked=False,
    variables=(
        Variable(
            "copy_similarity", ("paragraph", *GRADIENT), "float", "cosine", "gradient similarity to the copy",
            "cosine between the gradients of a paragraph's and its changed copy's mean NLL", "localize", low=-1, high=1,
        ),
        Variable(
            "copy_similarity_null", ("paragraph", *GRADIENT), "float", "cosine", "gradient similarity to another's copy",
            "cosine between the gradients of a paragraph's and another one's copy's mean NLL, from another cluster",
            "localize", low=-1, high=1, role="null", of="copy_similarity",
        ),
    ),
)  # fmt: skip
