package tools

import "strings"

// closest gives the known name that an unknown one most likely means, or "".
func closest(name string, known []string) string {
	plain := fold(name)
	best, bestCost := "", 1<<30
	for _, k := range known {
		cost := distance(plain, fold(k))
		if limit := max(1, min(len(plain), len(k))/3); cost > limit {
			cost = 1 << 30
		}
		if part := fold(k); len(plain) >= 3 && len(part) >= 3 &&
			(strings.Contains(part, plain) || strings.Contains(plain, part)) {
			cost = min(cost, 3)
		}
		if cost < bestCost {
			best, bestCost = k, cost
		}
	}
	return best
}

// fold drops what differs between spellings: case, underscores, dashes.
func fold(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
}

// distance is the number of edits (insert, delete, replace, swap neighbours) between two
// short strings of bytes.
func distance(a, b string) int {
	before, prev := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev = prev, cur
	}
	return prev[len(b)]
}
