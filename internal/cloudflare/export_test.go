package cloudflare

import "net/http"

// What the tests need of the inside.
var (
	AssetHash       = assetHash
	Extension       = extension
	MediaType       = mediaType
	ParseTraceEvent = parseTraceEvent
	VersionID       = versionID
)

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
