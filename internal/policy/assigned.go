package policy

import (
	"bytes"
	"slices"
	"strings"
)

// The kinds that are known by where they stand, not by a format of their own.
const (
	kindAssigned = "assigned-secret"
	kindPassword = "assigned-password"
	kindBearer   = "bearer-token"
	kindURL      = "url-password"
	kindDatabase = "database-url"
)

// secretNames are the words that the name of a secret has in it.
func secretNames() []string {
	return []string{"password", "passwd", "pwd", "passphrase", "secret", "token", "credential", "key", "authorization"}
}

// keyWords stand before "key" in the names of keys that are secret: a key alone may be
// one of a map, a keyboard or a cache.
func keyWords() []string {
	return []string{
		"api", "access", "private", "secret", "auth", "encryption", "encrypt", "signing", "sign", "hmac", "master", "service", "account",
		"admin", "client", "app", "application", "shared", "storage", "license", "deploy", "webhook", "session", "jwt", "aes", "consumer",
		"root", "role", "subscription", "function", "host", "server", "management",
	}
}

// tellers follow the word in names of what is about a secret and is none: a token's URL,
// a password's label, the name of a secret.
func tellers() []string {
	return []string{
		"url", "uri", "endpoint", "path", "name", "field", "label", "placeholder", "type", "kind", "id", "param", "query", "header", "regex", "pattern",
		"length", "len", "min", "max", "err", "message", "msg", "text", "hint", "title", "tip", "prefix", "suffix", "count", "limit", "budget", "class",
		"selector", "input", "file", "format", "izer", "ization", "ize", "ary", "expir", "ttl", "polic", "rule", "schema", "valid", "reset",
		"forgot", "confirm", "strength", "visib", "toggle", "icon", "help", "mask", "manag", "provider", "store", "cache", "code", "board", "down",
		"up", "press", "word", "frame", "stroke", "s_per", "usage", "price", "cost", "source", "scope", "algorithm", "alg", "method", "mode", "version", "ref",
		"public", "arn", "store", "audience", "issuer", "lifetime", "duration", "hash", "env", "var", "locat", "less", "_id", "-id",
	}
}

const (
	maxName  = 64
	maxValue = 512
)

// assigned looks whether a secret-like name, of which a word stands at [at, end), is
// given a value: name = "value", "name": "value", ?name=value, and NAME=value or
// name: value on a line where the file is one of settings.
func (s *Scanner) assigned(p part, at, end int) match {
	text := p.content
	from, to := at, end
	for to < len(text) && to-end < maxName && isName(text[to]) {
		to++
	}
	operator := operatorAfter(text, to)
	if operator < 0 { // by far the most often
		return match{}
	}
	for from > 0 && at-from < maxName && isName(text[from-1]) {
		from--
	}
	valueFrom, valueTo := valueAt(p, from, operator)
	if valueFrom < 0 || valueTo-valueFrom < 8 || !slices.ContainsFunc(text[valueFrom:valueTo], isDigit) {
		return match{}
	}
	name := strings.ToLower(string(text[from:to]))
	word := strings.ToLower(string(text[at:end]))
	if !secretName(name[:at-from], word, name[end-from:]) {
		return match{}
	}
	value := string(text[valueFrom:valueTo])
	general := kindAssigned
	if isPassword(word) {
		general = kindPassword
	}
	if scheme, rest, ok := strings.Cut(value, " "); ok && len(scheme) <= 8 { // Bearer …, Basic …, token …
		if word != "authorization" {
			return match{}
		}
		valueFrom += len(scheme) + 1
		value = rest
		if strings.EqualFold(scheme, "bearer") {
			general, name = kindBearer, "bearer"
		}
	}
	if kind := named(name, value); kind != "" && !madeUp(value) {
		return match{kind: kind, from: valueFrom, to: valueTo, value: value}
	}
	if !guarded(value, isPassword(word)) {
		return match{}
	}
	return match{kind: general, from: valueFrom, to: valueTo, value: value, weak: name}
}

func isName(c byte) bool { return isAlnum(c) || c == '_' || c == '-' }

func isPassword(word string) bool {
	return word == "password" || word == "passwd" || word == "pwd" || word == "passphrase"
}

// secretName tells whether a name, in lower case, is a secret's, from what stands before
// and after the word in it.
func secretName(before, word, after string) bool {
	after = strings.TrimLeft(after, "_-")
	if word == "key" {
		before = strings.TrimRight(before, "_-")
		if !slices.ContainsFunc(keyWords(), func(w string) bool { return strings.HasSuffix(before, w) }) {
			return false
		}
	}
	if strings.HasSuffix(strings.TrimRight(before, "_-"), "public") || strings.Contains(before, "csrf") || strings.Contains(before, "xsrf") || strings.HasSuffix(before, "cancel") {
		return false
	}
	if word == "token" && strings.HasPrefix(after, "key") || isPassword(word) && strings.HasPrefix(after, "key") {
		return false // where a token is kept
	}
	return !slices.ContainsFunc(tellers(), func(w string) bool { return strings.HasPrefix(after, w) })
}

// operatorAfter finds where an assignment's operator (=, :, =>, :=, ||=, ??=, ==) ends that
// follows a name, or a quoted name, which ends at; -1 when there is none.
func operatorAfter(text []byte, at int) int {
	if at < len(text) && text[at] == '\\' {
		at++
	}
	if at < len(text) && isQuote(text[at]) {
		at++
	}
	if at < len(text) && text[at] == ']' {
		at++
	}
	at = skipSpaces(text, at)
	end := at
	for end < len(text) && end-at < 3 && strings.IndexByte("=:>|?", text[end]) >= 0 {
		end++
	}
	if end == at {
		return -1
	}
	return end
}

func isQuote(c byte) bool { return c == '"' || c == '\'' || c == '`' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// valueAt finds the value that follows an operator, which ends at; the name began at
// from. It gives -1 for none.
func valueAt(p part, from, at int) (int, int) {
	text := p.content
	spaces := at
	at = skipSpaces(text, at)
	escaped := at < len(text) && text[at] == '\\'
	if escaped {
		at++
	}
	inQuery := from > 0 && (text[from-1] == '?' || text[from-1] == '&')
	switch {
	case at < len(text) && isQuote(text[at]):
		return quoted(text, at, escaped)
	case escaped:
		return -1, -1
	case inQuery:
		return until(text, spaces, "&#\"'`<> \t\r\n\\)")
	case p.lines && from > 0 && text[from-1] == '<' && text[spaces-1] == '>':
		return until(text, spaces, "<>&\"' \t\r\n") // an element of XML
	case p.lines && beginsLine(text, from):
		from, to := until(text, at, " \t\r\n\"'`,;")
		if from < 0 || bytes.ContainsAny(text[from:to], "()[]{}") {
			return -1, -1 // code, not a value
		}
		return from, to
	}
	return -1, -1
}

func skipSpaces(text []byte, at int) int {
	for n := 0; n < 16 && at < len(text) && (text[at] == ' ' || text[at] == '\t'); n++ {
		at++
	}
	return at
}

// quoted gives what stands between a quote and the next one of its kind, on one line.
func quoted(text []byte, at int, escaped bool) (int, int) {
	quote := text[at]
	from := at + 1
	for i := from; i < len(text) && i-from <= maxValue; i++ {
		switch text[i] {
		case '\n', '\r':
			return -1, -1
		case quote:
			if escaped && i > from && text[i-1] == '\\' {
				return from, i - 1
			}
			return from, i
		}
	}
	return -1, -1
}

// until gives what stands before the first of some bytes.
func until(text []byte, from int, ends string) (int, int) {
	limit := min(len(text), from+maxValue+1)
	n := bytes.IndexAny(text[from:limit], ends)
	if n < 0 {
		if limit < len(text) {
			return -1, -1
		}
		n = limit - from
	}
	return from, from + n
}

// beginsLine tells whether only spaces, a dash of a list or "export" stand before.
func beginsLine(text []byte, at int) bool {
	for n := 0; n < maxName && at > 0 && (isName(text[at-1]) || text[at-1] == '.'); n++ {
		at-- // the way to the name: spring.datasource.password
	}
	from := bytes.LastIndexByte(text[max(0, at-40):at], '\n')
	if from < 0 && at > 40 {
		return false
	}
	before := strings.TrimSpace(string(text[max(0, at-40)+from+1 : at]))
	return before == "" || before == "export" || before == "-" || before == "set"
}

// named are kinds that look like anything and are known by the name they are given to.
func named(name, value string) string {
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(name, w) })
	}
	switch {
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html: 40 characters of base 64.
	case has("aws", "secretaccesskey", "secret_access_key", "secret-access-key") && has("secret") && only(value, 40, 40, "09azAZ++//"):
		return "aws-secret-access-key"
	// https://developers.cloudflare.com/api/: tokens of 40 characters before they had a prefix, global keys of 37.
	case has("cloudflare", "cf_", "cf-", "cfapi") && only(value, 40, 40, "09azAZ__--") && hasDigit(value):
		return "cloudflare-legacy-token"
	case has("cloudflare", "cf_", "x-auth-key") && only(value, 37, 37, "09af"):
		return "cloudflare-global-key"
	// https://www.twilio.com/docs/iam/api-keys: 32 hexadecimal digits.
	case has("twilio") && only(value, 32, 32, "09af"):
		return "twilio-auth-token"
	// https://docs.datadoghq.com/account_management/api-app-keys/: 32 and 40 hexadecimal digits.
	case has("datadog", "dd_", "dd-") && (only(value, 32, 32, "09af") || only(value, 40, 40, "09af")):
		return "datadog-key"
	// https://discord.com/developers/docs/reference#authentication
	case discordBot(value):
		return "discord-bot-token"
	}
	return ""
}

// only tells whether a text has so many characters, all of these ranges.
func only(s string, low, high int, ranges string) bool {
	if len(s) < low || len(s) > high {
		return false
	}
	for i := range len(s) {
		in := false
		for r := 0; r+1 < len(ranges); r += 2 {
			in = in || s[i] >= ranges[r] && s[i] <= ranges[r+1]
		}
		if !in {
			return false
		}
	}
	return true
}
