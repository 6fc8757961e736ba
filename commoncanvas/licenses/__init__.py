"""What a licence says and allows; attribution; take-downs."""
