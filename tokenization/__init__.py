"""Text and chats to packed Megatron shards, without torch or megatron: an array task starts at once."""
