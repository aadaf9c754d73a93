package audit

import "golang.org/x/mod/sumdb/tlog"

// For the tests outside of the package.

func ParseRanges(s string, f func(int64)) error { return parseRanges(s, f) }
func FormatRanges(all []int64) string           { return formatRanges(all) }

func OpenCheckpoint(msg []byte, public string) (tlog.Tree, error) {
	key, err := parsePublic(public)
	if err != nil {
		return tlog.Tree{}, err
	}
	return openCheckpoint(msg, key)
}
