package policy

import "strings"

// closest gives the known name that an unknown one most likely means, or "".
func closest(name string, known []string) string {
	best, least := "", 1<<30
	for _, k := range known {
		cost := edits(fold(name), fold(k))
		if cost <= max(1, min(len(name), len(k))/3) && cost < least {
			best, least = k, cost
		}
	}
	return best
}

// fold drops what differs between spellings of a name.
func fold(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// edits counts insertions, deletions, replacements and swaps of neighbours between two
// short strings of bytes.
func edits(a, b string) int {
	table := make([][]int, len(a)+1)
	for i := range table {
		table[i] = make([]int, len(b)+1)
		table[i][0] = i
	}
	for j := range table[0] {
		table[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			differ := 1
			if a[i-1] == b[j-1] {
				differ = 0
			}
			table[i][j] = min(table[i-1][j]+1, table[i][j-1]+1, table[i-1][j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				table[i][j] = min(table[i][j], table[i-2][j-2]+1)
			}
		}
	}
	return table[len(a)][len(b)]
}
