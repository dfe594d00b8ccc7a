"""Prompts: template files with checked slots, chat frames, token budgets."""
