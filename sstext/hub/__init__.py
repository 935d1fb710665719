"""The model card, and publishing to the Hugging Face Hub; reads files only."""
