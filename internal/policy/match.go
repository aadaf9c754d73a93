package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// match is one place in a text that looks like a secret.
type match struct {
	kind     string
	from, to int
	value    string
	// shown is the public beginning that a sample may tell.
	shown string
	// weak is the place (a name, an address without its password) of a value that may be
	// guessable; "" for values of a kind that is random by its making.
	weak string
}

// fingerprint names the finding without telling the value.
//
// A random value of an issuer's is named by a hash of kind and value: nobody can try
// them all, and the same token has the same name wherever it stands. A password may be
// guessable, and a hash of it would let anybody who sees a log try a dictionary. It is
// named by its place instead (kind, file and the name that it is assigned to) and by 12
// bits of the value's hash: an allowance ends when the password changes, but for one
// change in 4096, and a dictionary of ten million words still has 2,400 that fit.
func (m match) fingerprint(file string) string {
	text := "hourglass finding\x00" + m.kind + "\x00" + m.value
	if m.weak != "" {
		sum := sha256.Sum256([]byte(text))
		text = fmt.Sprintf("hourglass place\x00%s\x00%s\x00%s\x00%03x", m.kind, file, m.weak, (int(sum[0])<<8|int(sum[1]))>>4)
	}
	sum := sha256.Sum256([]byte(text))
	return "f_" + hex.EncodeToString(sum[:12])
}

// sample is masked: what is public of it, and of long random values the last two
// characters, so that its owner can tell which of their tokens it is.
func (m match) sample() string {
	hidden := len(m.value) - len(m.shown)
	tail := ""
	if m.weak == "" && hidden >= 20 {
		tail = m.value[len(m.value)-2:]
	}
	return fmt.Sprintf("%s…%s (%d characters)", m.shown, strings.ToValidUTF8(tail, ""), len(m.value))
}

const (
	// maxMatches bounds the different values of one text that are looked into. More than
	// maxFindings of them end the scan anyway.
	maxMatches = 10_000
	// farLook is from when on a failed look is remembered: what begins before its end is
	// not looked at again for the same kind, or hostile text could make every beginning
	// in a long run cost the whole run.
	farLook = 200
)

// text finds what looks like a secret in one text, in order and without overlaps: what
// has a known format goes before what is known by its name, and then what begins first,
// and of those the longest. A value that stands in the text again is told once.
func (s *Scanner) text(p part) []match {
	onlyKinds := binary(p.content)
	var out []match
	done := map[int]int{} // by way or kind: the place before which nothing is looked at again
	told := map[string]bool{}
	s.words.each(p.content, func(word, end int) {
		w := s.starts[word]
		at := end - len(w.text)
		if onlyKinds && w.kind < 0 && w.kind != wayPEM || at < done[w.kind] || len(out) >= maxMatches {
			return
		}
		m, reach := s.look(p, w, at, end)
		if m.kind == "" {
			if reach-at > farLook {
				done[w.kind] = reach
			}
			return
		}
		done[w.kind] = m.to
		if key := m.kind + "\x00" + m.weak + "\x00" + m.value; !told[key] {
			told[key] = true
			out = append(out, m)
		}
	})
	slices.SortStableFunc(out, func(a, b match) int {
		return cmp.Or(cmp.Compare(general(a.kind), general(b.kind)), cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to))
	})
	kept := &intervals{}
	out = slices.DeleteFunc(out, func(m match) bool { return !kept.take(m.from, m.to) })
	slices.SortFunc(out, func(a, b match) int { return cmp.Compare(a.from, b.from) })
	return out
}

// general ranks what is known by its name alone behind what is known by its format.
func general(kind string) int {
	switch kind {
	case kindAssigned, kindPassword, kindBearer, kindURL, kindDatabase:
		return 1
	}
	return 0
}

// intervals are stretches of a text that do not overlap, in order.
type intervals struct{ list [][2]int }

func (v *intervals) take(from, to int) bool {
	i, _ := slices.BinarySearchFunc(v.list, from, func(e [2]int, at int) int { return e[0] - at })
	if i > 0 && v.list[i-1][1] > from || i < len(v.list) && v.list[i][0] < to {
		return false
	}
	v.list = slices.Insert(v.list, i, [2]int{from, to})
	return true
}

// look looks at one place that the prefilter found, and tells how far it looked. A match
// without a kind is none.
func (s *Scanner) look(p part, w start, at, end int) (m match, reach int) {
	switch w.kind {
	case wayName:
		return s.assigned(p, at, end), end
	case wayURL:
		return s.url(p.content, at), end
	case wayPEM:
		return s.pem(p.content, at), end
	case wayBearer:
		return s.bearer(p.content, at, end), end
	}
	k := &s.kinds[w.kind]
	text := p.content
	if string(text[at:end]) != w.text {
		return match{}, end // of another case
	}
	from, shapeFrom := at, end
	if k.back != nil {
		if from = k.back(text, at); from < 0 {
			return match{}, end
		}
		shapeFrom = from
	}
	if !k.glued && !beginsWord(text, from) {
		return match{}, end
	}
	to, reach := k.rest.match(text, shapeFrom)
	if to < 0 {
		return match{}, reach
	}
	value := string(text[from:to])
	shown := publicPart(k, w, value)
	if k.back != nil && !strings.Contains(value, w.text) || k.check != nil && !k.check(value) || !k.checked && madeUp(value[len(shown):]) {
		return match{}, reach
	}
	return match{kind: k.name, from: from, to: to, value: value, shown: shown}, reach
}

// publicPart is what a kind's secrets have in common at their beginning.
func publicPart(k *kind, w start, value string) string {
	if k.back == nil {
		return w.text
	}
	if first := k.rest[0]; first.set == nil {
		return value[:len(first.literal)]
	}
	return ""
}

// beginsWord tells whether a secret can begin here: not in the middle of a longer word.
// An escape (\n, \u003d, %20) is no word, though it ends with a letter or a digit.
func beginsWord(text []byte, at int) bool {
	if at == 0 || !isAlnum(text[at-1]) {
		return true
	}
	if at >= 2 && text[at-2] == '\\' && strings.IndexByte("nrtbf", text[at-1]) >= 0 {
		return true
	}
	if at >= 3 && text[at-3] == '%' && isHex(text[at-2]) && isHex(text[at-1]) {
		return true
	}
	return at >= 6 && text[at-6] == '\\' && text[at-5] == 'u' && isHex(text[at-4]) && isHex(text[at-3]) && isHex(text[at-2]) && isHex(text[at-1])
}

func isAlnum(c byte) bool { return c >= '0' && c <= '9' || lower(c) >= 'a' && lower(c) <= 'z' }

func isHex(c byte) bool { return c >= '0' && c <= '9' || lower(c) >= 'a' && lower(c) <= 'f' }
