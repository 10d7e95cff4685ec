"""Chats to token ids and loss masks, by the chat template of the model."""
