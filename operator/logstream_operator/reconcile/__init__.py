"""One resource brought to the state it asks for, level-triggered: what is done follows from what is there."""
