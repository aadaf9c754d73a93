package bundle

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// oldestDate is the first compatibility date that the runtime knows.
const oldestDate = "2021-11-02"

func validDate(d string) bool {
	_, err := time.Parse(time.DateOnly, d)
	return err == nil
}

var flagName = regexp.MustCompile(`^[a-z0-9_]+$`)

// compatibility settles date and flags, with a warning for each thing it changed.
func (b *Bundler) compatibility(date string, flags []string) (string, []string, []string, error) {
	var warnings []string
	flags = slices.Compact(slices.Sorted(slices.Values(flags)))
	for _, f := range flags {
		if len(f) > 100 || !flagName.MatchString(f) {
			return "", nil, nil, deploy.Errorf(deploy.CodeInvalidArgument, "Flags look like nodejs_compat; see Cloudflare's list of compatibility flags.",
				"%q is not a compatibility flag", cutText(f, 100))
		}
	}
	switch {
	case date == "":
		date = b.cfg.DefaultDate
		warnings = append(warnings, fmt.Sprintf("No compatibility_date was given: %s is used.", date))
	case !validDate(date):
		return "", nil, nil, deploy.Errorf(deploy.CodeInvalidArgument, "Give a date such as "+b.cfg.DefaultDate+", or none.",
			"the compatibility date %q is not of the form YYYY-MM-DD", cutText(date, 40))
	case date > b.cfg.MaxDate:
		warnings = append(warnings, fmt.Sprintf("The compatibility date %s is newer than the runtime: %s is used.", date, b.cfg.MaxDate))
		date = b.cfg.MaxDate
	case date < oldestDate:
		warnings = append(warnings, fmt.Sprintf("The compatibility date %s is older than the runtime knows: %s is used.", date, oldestDate))
		date = oldestDate
	}
	if nodeModeOf(date, flags) == nodeV2 && date < dateNoPolyfills {
		warnings = append(warnings, fmt.Sprintf("Node.js compatibility with the date %s would need polyfills, which are not bundled here: %s is used, where the runtime has all of Node's modules itself.", date, dateNoPolyfills))
		date = dateNoPolyfills
	}
	return date, flags, warnings, nil
}
