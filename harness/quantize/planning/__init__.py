"""What would come of a study, before any work: rules, forecasts, what platforms make of it."""
