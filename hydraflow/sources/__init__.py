"""What data providers publish about their files elsewhere than in the answer, and how to ask for it."""
