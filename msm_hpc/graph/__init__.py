"""What is to be made: arms to steps, their identities, kinds and job arrays. Pure: asks no disk."""
