package bundle

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// maxName is the longest name that works as a part of a host name (RFC 1035).
const maxName = 63

var (
	goodName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	badChars = regexp.MustCompile(`[^a-z0-9-]`)
	dashes   = regexp.MustCompile(`-{2,}`)
)

// validName makes a Worker name out of any text, as wrangler does (wrangler-wire fact
// sheet, section 1.1), and lower-case, since it becomes a host name.
func validName(s string) string {
	s = badChars.ReplaceAllString(strings.ToLower(s), "-")
	s = dashes.ReplaceAllString(s, "-")
	s = strings.Trim(s, "-")
	if len(s) > maxName {
		s = strings.TrimRight(s[:maxName], "-")
	}
	if s == "" {
		return "my-worker"
	}
	return s
}

// checkName refuses a name that was chosen but can't be one.
func checkName(name, where string) error {
	if len(name) <= maxName && goodName.MatchString(name) {
		return nil
	}
	return deploy.Errorf(deploy.CodeNameInvalid,
		fmt.Sprintf("Use %q: lower-case letters, digits and dashes, at most %d, not beginning or ending with a dash.", validName(name), maxName),
		"%q (%s) can't be a Worker's name: it becomes a part of the host name", cutText(name, 100), where)
}
