package policy

// kind is one kind of secret whose format its issuer publishes.
type kind struct {
	name string
	what string
	// source is where the issuer tells the format, or shows it.
	source string
	// starts are the literal beginnings, by case; they are also what the prefilter looks for.
	starts []string
	// rest is what follows the beginning.
	rest shape
	// middle tells that starts stand inside the secret: back finds where it begins, or -1.
	back func(text []byte, at int) int
	// glued tells that letters may stand right before it.
	glued bool
	// check sees the whole match and can refuse it: a checksum, a structure inside.
	check func(match string) bool
	// checked tells that check verifies a checksum, so that no placeholder passes it.
	checked bool
}

// shape is a sequence of runs and literals. It matches without going back: each run
// takes all it can.
type shape []run

// run is between min and max characters of a set, or the literal text.
type run struct {
	set      *charset
	min, max int
	literal  string
}

// charset tells which bytes belong to a set.
type charset [256]bool

func set(ranges string) *charset {
	var s charset
	for i := 0; i+2 < len(ranges)+1; i += 2 {
		for c := int(ranges[i]); c <= int(ranges[i+1]); c++ {
			s[c] = true
		}
	}
	return &s
}

// sets are the alphabets that secrets are written in, made once for a Scanner. A pair of
// characters is a range.
type sets struct {
	digits, hex, letters, base62, upper, base32, wordDash, wordDashDot, base64, bech32 *charset
}

func newSets() sets {
	return sets{
		digits: set("09"), hex: set("09af"), letters: set("azAZ"), base62: set("09azAZ"), upper: set("09AZ"),
		base32: set("27AZ"), wordDash: set("09azAZ__--"), wordDashDot: set("09azAZ__--..~~"),
		base64: set("09azAZ++//=="), bech32: set("0023456789AZ"),
	}
}

func exactly(n int, s *charset) run         { return run{set: s, min: n, max: n} }
func between(low, high int, s *charset) run { return run{set: s, min: low, max: high} }
func literal(text string) run               { return run{literal: text} }

// match gives where the shape ends in text when it begins at from, or -1, and how far it
// had to look. What follows must not go on in the last run's alphabet.
func (s shape) match(text []byte, from int) (end, reach int) {
	at := from
	var last *charset
	for _, r := range s {
		if r.set == nil {
			if len(text)-at < len(r.literal) || string(text[at:at+len(r.literal)]) != r.literal {
				return -1, at
			}
			at += len(r.literal)
			continue
		}
		n := 0
		for at+n < len(text) && n < r.max && r.set[text[at+n]] {
			n++
		}
		at += n
		if n < r.min {
			return -1, at
		}
		last = r.set
	}
	if at < len(text) && last != nil && last[text[at]] {
		return -1, at
	}
	return at, at
}
