"""How the terms of the loss are best weighted: every rule beside a sweep over constant weights."""
