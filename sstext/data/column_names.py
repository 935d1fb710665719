"""Names of columns that mean "the text" and "the label", in any capitalization. The most specific names come first."""

#: They also tell a csv header from a sentence with commas.
TEXT_NAMES = (
    "text", "sentence", "content", "message", "body", "review", "utterance", "document",
    "comment", "tweet", "post", "description", "question", "query", "ticket", "email", "input", "texts",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "category", "class", "target", "intent", "topic", "sentiment", "emotion", "tag",
    "label_text", "label_name", "class_name",
)  # fmt: skip
