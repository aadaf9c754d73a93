package policy

import (
	"math"
	"regexp"
	"strings"
)

// guarded tells whether a value that is assigned to a secret-like name is more likely a
// secret than a word, a label or a sample. Passwords may be short, but then mix kinds of
// characters; others are long and look random.
func guarded(value string, password bool) bool {
	if strings.ContainsAny(value, " \t") || filledIn(value) || placeholder(strings.ToLower(value)) || madeUp(value) {
		return false
	}
	c := count(value)
	if password {
		return len(value) >= 8 && c.kinds() >= 3 && c.digit > 0 && !address(value) && (c.symbol > c.separators || !wordy(value)) ||
			len(value) >= 12 && c.digit > 0 && c.letters() > 0 && entropy(value) >= 3 && !address(value) && !wordy(value)
	}
	switch {
	case len(value) < 16 || c.digit == 0 || c.letters() == 0 || address(value) || wordy(value) || publicKey(value):
		return false
	case uuid.MatchString(value):
		return true // some issuers' keys are UUIDs, and this one has a secret's name
	case hexOnly.MatchString(value):
		return len(value) >= 32 && entropy(value) >= 2.8
	}
	return c.other == 0 && entropy(value) >= 3.3
}

var (
	uuid    = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	hexOnly = regexp.MustCompile(`^[0-9a-fA-F]+$`)
	part62  = regexp.MustCompile(`[A-Za-z]+|[0-9]+`)
	camel   = regexp.MustCompile(`[A-Z]?[a-z]+|[A-Z]+`)
)

// counts are how many characters of each sort a text has.
type counts struct{ lower, upper, digit, symbol, separators, other int }

func count(s string) counts {
	var c counts
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z':
			c.lower++
		case b >= 'A' && b <= 'Z':
			c.upper++
		case b >= '0' && b <= '9':
			c.digit++
		case b > ' ' && b < 0x7f:
			c.symbol++
			if strings.IndexByte("-_./:", b) >= 0 {
				c.separators++
			}
			if strings.IndexByte("+/=_-.~!@#$%^&*:", b) < 0 {
				c.other++
			}
		default:
			c.other++
		}
	}
	return c
}

func (c counts) letters() int { return c.lower + c.upper }

func (c counts) kinds() int {
	n := 0
	for _, has := range []int{c.lower, c.upper, c.digit, c.symbol} {
		n += min(has, 1)
	}
	return n
}

// entropy is Shannon's, in bits a character.
func entropy(s string) float64 {
	var seen [256]int
	for i := range len(s) {
		seen[s[i]]++
	}
	sum := 0.0
	for _, n := range seen {
		if n > 0 {
			p := float64(n) / float64(len(s))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}

// address tells a URL, a path, a MIME type, a mail address: they have a secret-like name
// where they lead to the secret.
func address(s string) bool {
	return strings.Contains(s, "://") || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || strings.HasPrefix(s, "#/") ||
		strings.HasPrefix(s, "arn:") || strings.HasPrefix(s, "urn:") || strings.HasPrefix(s, "data:") || strings.HasPrefix(s, "@")
}

// publicKey tells what is public by its prefix, although it stands under a key's name,
// and keys of a test mode, which move nothing.
func publicKey(s string) bool {
	for _, p := range []string{"pk_", "pk.", "sk_test_", "rk_test_", "sb_publishable_", "ssh-", "sha1-", "sha256-", "sha384-", "sha512-", "sha256:", "$2a$", "$2b$", "$argon2", "phc_", "G-", "UA-", "GTM-"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// wordy tells an identifier made of words: parts of letters that read as words, short
// numbers between them. Random text changes between letters, cases and digits at every
// other character.
func wordy(s string) bool {
	runs := part62.FindAllString(s, -1)
	if len(runs) == 0 {
		return true
	}
	words, letters := 0, 0
	for _, r := range runs {
		if r[0] <= '9' {
			if len(r) > 8 {
				return false
			}
			words++
			continue
		}
		letters += len(r)
		for _, w := range camel.FindAllString(r, -1) {
			if len(w) > 3 && !pronounced(w) {
				return false
			}
			words++
		}
	}
	return letters > 0 && float64(len(s))/float64(words) >= 3
}

// pronounced tells whether a word has vowels as words do.
func pronounced(w string) bool {
	vowels, longest, run := 0, 0, 0
	for i := range len(w) {
		if strings.IndexByte("aeiouy", lower(w[i])) >= 0 {
			vowels++
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return vowels*6 >= len(w) && longest <= 4
}

// placeholder tells words that stand where a secret will be, in lower case.
func placeholder(s string) bool {
	for _, w := range []string{
		"example", "placeholder", "changeme", "change-me", "change_me", "change.me", "yourpass", "your-", "your_", "yoursecret", "yourtoken", "yourkey",
		"yourapi", "somepass", "abc-def1234", "mysecret", "my-secret", "my_secret", "xxxx", "****", "....", "dummy", "sample", "fake", "mock", "todo", "redacted", "insert", "replace",
		"notasecret", "not-a-secret", "not_a_secret", "process.env", "import.meta", "undefined", "lorem", "foobar", "hunter2", "correct-horse", "p@ssw0rd", "passw0rd",
		"localhost", "s3cr3t", "demo-", "demo_", "test-", "test_", "-test", "_test", "testing", "test1", "test!", "password1", "password!", "qwerty", "secret1",
	} {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// madeUp tells a value that somebody typed to show the format: few different
// characters, one repeated, the alphabet or the digits in their order, "EXAMPLE" in it.
func madeUp(s string) bool {
	if len(s) == 0 {
		return true
	}
	var seen [256]bool
	different, same, rising, longestSame, longestRising := 0, 1, 1, 1, 1
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
			different++
		}
		if i > 0 && s[i] == s[i-1] {
			same++
		} else {
			same = 1
		}
		if i > 0 && (s[i] == s[i-1]+1 || s[i] == '0' && s[i-1] == '9' || s[i] == 'a' && s[i-1] == '9') {
			rising++
		} else {
			rising = 1
		}
		longestSame, longestRising = max(longestSame, same), max(longestRising, rising)
	}
	folded := strings.ToLower(s[:min(len(s), 256)])
	return different < min(6, len(s)/2+1) || longestSame >= 8 || longestSame >= 6 && len(s) < 64 || longestRising >= 8 ||
		strings.Contains(folded, "example") || strings.Contains(folded, "xxxxx") || strings.Contains(folded, "placeholder") || strings.Contains(folded, "your-") || strings.Contains(folded, "your_")
}
