package tools

// EstimateTokens is the estimate that cuts results, for tests.
func EstimateTokens(s string) int { return estimateTokens(s) }
