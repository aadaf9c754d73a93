package policy

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
)

// databaseSchemes are the URLs that services are connected to by.
func databaseSchemes() []string {
	return []string{
		"postgres", "postgresql", "mysql", "mysql2", "mariadb", "mongodb", "mongodb+srv", "redis", "rediss", "valkey", "amqp", "amqps", "mssql",
		"sqlserver", "clickhouse", "cockroachdb", "libsql", "nats", "kafka", "ldap", "ldaps", "smtp", "smtps", "imap", "imaps", "ftp", "sftp", "cloudinary",
	}
}

// url finds a password in a URL, "scheme://user:password@host" (RFC 3986, section 3.2.1),
// where "://" stands at.
func (s *Scanner) url(text []byte, at int) match {
	from := at
	for from > 0 && at-from < 20 && (isAlnum(text[from-1]) || text[from-1] == '+') {
		from--
	}
	scheme := strings.ToLower(string(text[from:at]))
	kind := kindURL
	if slices.Contains(databaseSchemes(), scheme) {
		kind = kindDatabase
	} else if scheme != "http" && scheme != "https" && scheme != "ws" && scheme != "wss" {
		return match{}
	}
	begin := at + len("://")
	end := min(len(text), begin+maxValue)
	if n := bytes.IndexAny(text[begin:end], " \t\r\n\"'`<>\\|^,;()[]"); n >= 0 {
		end = begin + n
	}
	// The last @ before the path is the end of the password: one in it may stand plainly.
	// People put slashes into passwords of databases too, where no page is meant after.
	authority := text[begin:end]
	if n := bytes.IndexAny(authority, "/?#"); n >= 0 && (kind == kindURL || bytes.IndexByte(authority[:n], '@') >= 0) {
		authority = authority[:n]
	}
	i := bytes.LastIndexByte(authority, '@')
	if i < 0 {
		return match{}
	}
	user, password, ok := strings.Cut(string(authority[:i]), ":")
	host := string(authority[i+1:])
	if n := strings.IndexAny(host, "/?#"); n >= 0 {
		host = host[:n]
	}
	if !ok || ownHost(host) || defaultPassword(user, password) || filledIn(password) || filledIn(host) {
		return match{}
	}
	to := begin + i
	return match{
		kind: kind, from: from, to: to, value: string(text[from:to]), shown: scheme + "://" + user + ":", weak: scheme + "://" + user + "@" + host,
	}
}

// ownHost tells a host that nobody else can reach, or that exists in documentation alone
// (RFC 2606): a password for it gives nothing away.
func ownHost(host string) bool {
	name, _, _ := strings.Cut(strings.ToLower(host), ":")
	switch {
	case name == "" || name == "localhost" || strings.HasPrefix(name, "127.") || strings.HasPrefix(host, "[::1]") || name == "0.0.0.0" || name == "host" || name == "hostname":
		return true
	case name == "example" || strings.HasPrefix(name, "example.") || strings.Contains(name, ".example.") || strings.HasSuffix(name, ".example") || strings.HasSuffix(name, ".test") || strings.HasSuffix(name, ".invalid"):
		return true
	}
	return false
}

// defaultPassword tells what everybody tries first, and what documentation writes.
func defaultPassword(user, password string) bool {
	plain, err := url.PathUnescape(password)
	if err != nil {
		plain = password
	}
	plain = strings.ToLower(plain)
	switch plain {
	case "", "password", "pass", "passwd", "pwd", "secret", "postgres", "root", "admin", "test", "user", "username", "guest", "mysql", "redis", "mongo", "x", "xxx", "token", "key":
		return true
	}
	return plain == strings.ToLower(user) || len(plain) < 3 || placeholder(plain)
}

// filledIn tells a value that is put in later: a template, a variable.
func filledIn(s string) bool {
	return strings.ContainsAny(s, "${}<>*") && (strings.ContainsAny(s, "{}<>*") || strings.HasPrefix(s, "$")) || strings.Contains(s, "%s") || strings.Contains(s, "...") || strings.Contains(s, "…")
}

// pem finds a private key in armour (RFC 7468; OpenSSH's and PGP's are alike), also where
// a JSON or script string writes its lines with \n. at is where "-----BEGIN " stands.
func (s *Scanner) pem(text []byte, at int) match {
	begin := at + len("-----BEGIN ")
	line := text[begin:min(len(text), begin+60)]
	n := bytes.Index(line, []byte("-----"))
	if n < 0 {
		return match{}
	}
	label := string(line[:n])
	if !strings.HasSuffix(label, "PRIVATE KEY") && !strings.HasSuffix(label, "PRIVATE KEY BLOCK") {
		return match{}
	}
	const enough, most = 64, 16 << 10
	var body []byte
	i := begin + n + len("-----")
	for ; i < len(text) && i-begin < most; i++ {
		c := text[i]
		if c == '\\' && i+1 < len(text) && (text[i+1] == 'n' || text[i+1] == 'r' || text[i+1] == '\\') {
			i++
			continue
		}
		if s.sets.base64[c] {
			body = append(body, c)
		} else if strings.IndexByte(" \t\r\n\"'`,:-_().", c) < 0 && !isAlnum(c) || c == '-' && bytes.HasPrefix(text[i:], []byte("-----")) {
			break
		}
	}
	if len(body) < enough || entropy(string(body)) < 4 { // keys have long runs of A, samples little else than x
		return match{}
	}
	kind := "private-key"
	// https://cloud.google.com/iam/docs/keys-create-delete: the key file of a service account.
	if around := text[max(0, at-1000):min(len(text), i+1000)]; bytes.Contains(around, []byte("service_account")) && bytes.Contains(around, []byte("private_key")) {
		kind = "google-service-account"
	}
	return match{kind: kind, from: at, to: i, value: string(body), shown: ""}
}

// bearer finds a token in a header that is written out (RFC 6750): Bearer, then 20
// characters or more that look random.
func (s *Scanner) bearer(text []byte, at, end int) match {
	to := end
	for to < len(text) && to-end < maxValue && (s.sets.wordDashDot[text[to]] || s.sets.base64[text[to]]) {
		to++
	}
	value := string(text[end:to])
	if len(value) < 20 || !beginsWord(text, at) || !guarded(value, false) {
		return match{}
	}
	return match{kind: kindBearer, from: end, to: to, value: value, weak: "bearer"}
}
