"""What a sweep file says, and the plan that follows from it."""
