"""The model card, and publishing to the Hugging Face Hub. This package only reads the files of a run."""
