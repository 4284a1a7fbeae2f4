"""What a command has others do: runs and more, in processes of their own, some at a time."""
