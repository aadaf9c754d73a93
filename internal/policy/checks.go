package policy

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"strings"
)

// backOver finds where a secret begins whose known text stands after between least and
// most characters of a set.
func backOver(s *charset, least, most int) func([]byte, int) int {
	return func(text []byte, at int) int {
		n := 0
		for n < most && at-n > 0 && s[text[at-n-1]] {
			n++
		}
		if n < least {
			return -1
		}
		return at - n
	}
}

// backTo finds the nearest beginning, over characters of a set, at most so far away.
func backTo(s *charset, begin string, most int) func([]byte, int) int {
	return func(text []byte, at int) int {
		for n := 0; n < most && at-n > 0 && s[text[at-n-1]]; n++ {
			if from := at - n - len(begin); from >= 0 && text[from] == begin[0] && string(text[from:at-n]) == begin {
				return from
			}
		}
		return -1
	}
}

const base62Digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// crcBase62 verifies GitHub's checksum, which npm took over: of the last 36 characters
// the last six are the CRC-32 of the 30 before, in base 62, filled up with zeros.
func crcBase62(match string) bool {
	body := match[len(match)-36:]
	return base62CRC(body[:30]) == body[30:]
}

// base62CRC is the checksum of a text in six digits.
func base62CRC(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	var out [6]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = base62Digits[sum%62]
		sum /= 62
	}
	return string(out[:])
}

// crcGrafana verifies the checksum of a Grafana service account token, as its source
// makes it: CRC-32 of all before the last underscore, the lowest byte first, in hex.
func crcGrafana(match string) bool {
	i := strings.LastIndexByte(match, '_')
	return grafanaCRC(match[:i]) == match[i+1:]
}

func grafanaCRC(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	return hex.EncodeToString([]byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
}

const bech32Digits = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// bech32Valid verifies the checksum of a Bech32 text (BIP 173), which age identities are.
func bech32Valid(match string) bool {
	text := strings.ToLower(match)
	i := strings.LastIndexByte(text, '1')
	if i < 1 || len(text)-i < 7 {
		return false
	}
	sum := bech32Start(text[:i])
	for _, c := range []byte(text[i+1:]) {
		v := strings.IndexByte(bech32Digits, c)
		if v < 0 {
			return false
		}
		sum = bech32Step(sum, uint32(v))
	}
	return sum == 1
}

// bech32Sum is the checksum of a human-readable part and digits, in six digits.
func bech32Sum(human, digits string) string {
	sum := bech32Start(human)
	for _, c := range []byte(digits) {
		sum = bech32Step(sum, uint32(strings.IndexByte(bech32Digits, c))) //nolint:gosec // digits of the alphabet
	}
	for range 6 {
		sum = bech32Step(sum, 0)
	}
	sum ^= 1
	var out [6]byte
	for i := range out {
		out[i] = bech32Digits[sum>>(5*(5-i))&31]
	}
	return string(out[:])
}

func bech32Start(human string) uint32 {
	sum := uint32(1)
	for _, c := range []byte(human) {
		sum = bech32Step(sum, uint32(c>>5))
	}
	sum = bech32Step(sum, 0)
	for _, c := range []byte(human) {
		sum = bech32Step(sum, uint32(c&31))
	}
	return sum
}

func bech32Step(sum, value uint32) uint32 {
	top := sum >> 25
	sum = sum&0x1ffffff<<5 ^ value
	for i, g := range []uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
		if top>>i&1 == 1 {
			sum ^= g
		}
	}
	return sum
}

func hasDigit(match string) bool { return strings.ContainsAny(match, "0123456789") }

// liveJWT tells whether a text is a signed JWT that somebody could use. The time is not
// looked at: a token that is over today was a leak yesterday, and what a scan finds must
// not depend on the hour.
func liveJWT(match string) bool {
	parts := strings.Split(match, ".")
	var head struct {
		Alg string `json:"alg"`
		Typ string `json:"typ"`
	}
	var claims map[string]any
	if !decodePart(parts[0], &head) || head.Alg == "" || strings.EqualFold(head.Alg, "none") || !decodePart(parts[1], &claims) {
		return false
	}
	// Supabase's anon key is meant for browsers; jwt.io's and RFC 7519's samples are known
	// by their names.
	for _, public := range []struct{ claim, value string }{
		{"role", "anon"}, {"name", "John Doe"}, {"sub", "1234567890"}, {"iss", "joe"},
	} {
		if claims[public.claim] == public.value {
			return false
		}
	}
	return true
}

func decodePart(part string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	return err == nil && json.Unmarshal(raw, into) == nil
}

// discordBot tells whether a text is built as Discord's bot tokens are: the bot's number
// in base 64, then two parts.
func discordBot(value string) bool {
	parts := strings.Split(value, ".")
	if len(parts) != 3 || len(parts[1]) != 6 || len(parts[2]) < 27 || len(parts[2]) > 40 {
		return false
	}
	id, err := base64.RawStdEncoding.DecodeString(parts[0])
	if err != nil || len(id) < 17 || len(id) > 20 {
		return false
	}
	return strings.Trim(string(id), "0123456789") == ""
}
