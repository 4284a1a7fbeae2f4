"""What a network has learnt, beside what it scores: generated rows, masks, frozen features."""
