"""What every layer uses: cooperative cancellation, failpoints, checksums, memory budgets, tokenizing."""
