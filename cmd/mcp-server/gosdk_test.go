package main_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// withToken adds the token to every request.
type withToken struct{ token string }

func (w withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+w.token)
	return http.DefaultTransport.RoundTrip(r)
}

// TestHTTPOfficialGoSDK: the official Go SDK's client on both transports. On Streamable
// HTTP it speaks the newest revision that both know.
func TestHTTPOfficialGoSDK(t *testing.T) {
	w := newWorld(t)
	f := w.serveHTTP("--accept-terms", "--tokens", w.tokensFile())
	asks := &http.Client{Transport: withToken{w.token("go")}}
	for kind, tr := range map[string]mcp.Transport{
		"http": &mcp.StreamableClientTransport{Endpoint: f.MCP, HTTPClient: asks},
		"sse":  &mcp.SSEClientTransport{Endpoint: f.SSE, HTTPClient: asks},
	} {
		t.Run(kind, func(t *testing.T) {
			var progress []string
			client := mcp.NewClient(&mcp.Implementation{Name: "go-sdk", Version: "1"}, &mcp.ClientOptions{
				ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
					progress = append(progress, r.Params.Message)
				},
			})
			session, err := client.Connect(t.Context(), tr, nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, f.stderr.String())
			}
			defer session.Close()
			t.Logf("%s: protocol %s", kind, session.InitializeResult().ProtocolVersion)
			list, err := session.ListTools(t.Context(), nil)
			if err != nil || len(list.Tools) != 5 {
				t.Fatalf("%v %v", list, err)
			}
			for _, s := range steps("go-sdk-" + kind) {
				params := &mcp.CallToolParams{Name: s.tool, Arguments: s.args}
				params.SetProgressToken(s.tool)
				res, err := session.CallTool(t.Context(), params)
				if err != nil {
					t.Errorf("%s: %v", s.tool, err)
					continue
				}
				text := res.Content[0].(*mcp.TextContent).Text
				if res.IsError != s.isError || !strings.Contains(text, s.want) || (res.StructuredContent == nil) != s.isError {
					t.Errorf("%s: %s, want %q", s.tool, text, s.want)
				}
			}
		})
	}
}
