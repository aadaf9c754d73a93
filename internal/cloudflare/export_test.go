package cloudflare

import (
	"net/http"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// What the tests need of the inside.

func AssetHash(f deploy.Asset) string { return assetHash(f) }

func Extension(path string) string { return extension(path) }

func MediaType(path string) string { return mediaType(path) }

func ParseTraceEvent(frame []byte) (deploy.TraceEvent, bool) { return parseTraceEvent(frame) }

func VersionID(s string) string { return versionID(s) }

// HTTP is the guarded client, to try calls that no method makes.
func (c *Client) HTTP() *http.Client { return c.http }

// Sockets is the guarded client of the tail.
func (c *Client) Sockets() *http.Client { return c.sockets }

// ParseEnvelope tells whether a body is an envelope.
func ParseEnvelope(body []byte) (codes []int, err error) {
	env, err := parseEnvelope(body)
	if err != nil {
		return nil, err
	}
	for _, e := range env.Errors {
		codes = append(codes, e.Code)
	}
	return codes, nil
}

// ParseChallenge gives the work of a challenge, in hashes.
func ParseChallenge(body []byte) (k, g int, err error) {
	ch, err := parseChallenge(body, "reading a challenge")
	if err != nil {
		return 0, 0, err
	}
	return ch.k, ch.g, nil
}

func ObjectSteps(configured []deploy.ObjectStep, tag string) map[string]any {
	return objectSteps(configured, tag)
}

// Statements gives the statements of a text of SQL, and the lines that they begin on.
func Statements(sql string) (texts []string, lines []int) {
	for _, s := range statements(sql) {
		texts, lines = append(texts, s.text), append(lines, s.line)
	}
	return texts, lines
}
