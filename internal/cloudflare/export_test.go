package cloudflare

import (
	"net/http"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// What the tests need of the inside.

func AssetHash(f deploy.Asset) string { return assetHash(f) }

func Extension(path string) string { return extension(path) }

func MediaType(path string) string { return mediaType(path) }

func ParseTraceEvent(frame []byte) (deploy.TraceEvent, bool) {
	return parseTraceEvent(frame, func(s string) string { return s })
}

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

// ParseDeployments gives the version that serves.
func ParseDeployments(result []byte) (string, error) { return parseDeployments(result) }

// ParseAnnotations gives a version's tag and message.
func ParseAnnotations(result []byte) (tag, message string, err error) {
	return parseAnnotations(result)
}

// ParseWorkerHost gives where a Worker answers.
func ParseWorkerHost(result []byte) (enabled bool, host string, err error) {
	return parseWorkerHost(result)
}

// ParseList reads a page of a list of a type of resources.
func ParseList(kind string, result []byte) ([]deploy.OwnedResource, error) {
	return parseList(result, listings()[kind])
}

// Statements gives the statements of a text of SQL, and the lines that they begin on.
func Statements(sql string) (texts []string, lines []int) {
	for _, s := range statements(sql) {
		texts, lines = append(texts, s.text), append(lines, s.line)
	}
	return texts, lines
}
