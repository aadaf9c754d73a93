package tools_test

import (
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// TestLimitsResource: clients find the table of limits and read it, on every road.
func TestLimitsResource(t *testing.T) {
	roads(t, func(t *testing.T, connect func(*server.MCPServer, ...client.ClientOption) *client.Client) {
		c := connect(newServer(t, newFake(), nil))
		list, err := c.ListResources(t.Context(), mcp.ListResourcesRequest{})
		if err != nil || len(list.Resources) != 1 || list.Resources[0].URI != "hourglass://limits" {
			t.Fatalf("%+v %v", list, err)
		}
		req := mcp.ReadResourceRequest{}
		req.Params.URI = "hourglass://limits"
		got, err := c.ReadResource(t.Context(), req)
		if err != nil || len(got.Contents) != 1 {
			t.Fatalf("%+v %v", got, err)
		}
		text, ok := got.Contents[0].(mcp.TextResourceContents)
		if !ok || !strings.Contains(text.Text, "1 database of 100 MB") || !strings.Contains(text.Text, "1000 files") {
			t.Errorf("%+v", got.Contents[0])
		}
		req.Params.URI = "hourglass://nothing"
		if _, err := c.ReadResource(t.Context(), req); err == nil {
			t.Error("a resource that is not there was read")
		}
	})
}
