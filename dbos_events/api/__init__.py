"""What users call: decorators, verbs and handles, each verb one flow for both colours."""
