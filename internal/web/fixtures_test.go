package web_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// The fixtures that the official conformance suite asks of a server: their names and what
// they answer are the suite's. They stand behind our own Endpoint, so that what fails is
// either the library's or our layers'.

type toolFunc = func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error)

func fixtureServer() *server.MCPServer {
	srv := server.NewMCPServer("fixtures", "1",
		server.WithToolCapabilities(true), server.WithResourceCapabilities(true, true), server.WithPromptCapabilities(true),
		server.WithCompletions(), server.WithLogging(), server.WithElicitation(),
	)
	srv.EnableSampling()
	addContentTools(srv)
	addTalkingTools(srv)
	addMultiRoundTools(srv)
	addStatelessTools(srv)
	addFixtureResources(srv)
	addFixturePrompts(srv)
	return srv
}

// pixel and silence are the smallest picture and sound.
func pixel() string {
	return "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
}

func silence() string {
	head := "RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x00\x00\x00\x00"
	return base64.StdEncoding.EncodeToString([]byte(head))
}

func embedded(uri, mime, text string) mcp.Content {
	return mcp.NewEmbeddedResource(mcp.TextResourceContents{URI: uri, MIMEType: mime, Text: text})
}

// fixture is a tool with a description.
func fixture(name string, options ...mcp.ToolOption) mcp.Tool {
	return mcp.NewTool(name, append(options, mcp.WithDescription("A fixture of the conformance suite"))...)
}

func gives(content ...mcp.Content) toolFunc {
	return func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{Content: content}, nil
	}
}

func addContentTools(srv *server.MCPServer) {
	for name, f := range map[string]toolFunc{
		"test_simple_text":       gives(mcp.NewTextContent("This is a simple text response for testing.")),
		"test_image_content":     gives(mcp.NewImageContent(pixel(), "image/png")),
		"test_audio_content":     gives(mcp.NewAudioContent(silence(), "audio/wav")),
		"test_embedded_resource": gives(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")),
		"test_multiple_content_types": gives(mcp.NewTextContent("Multiple content types test:"), mcp.NewImageContent(pixel(), "image/png"),
			embedded("test://mixed-content-resource", "application/json", `{"test":"data","value":123}`)),
		"test_error_handling": func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultError("This tool intentionally returns an error for testing"), nil
		},
	} {
		srv.AddTool(fixture(name), f)
	}
	srv.AddTool(mcp.NewToolWithRawSchema("json_schema_2020_12_tool", "Tool with JSON Schema 2020-12 features", json.RawMessage(`{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
		"$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
		"properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"},
			"contactMethod": {"type": "string", "enum": ["phone", "email"]}, "phone": {"type": "string"}, "email": {"type": "string"}},
		"allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
		"if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
		"then": {"required": ["phone"]}, "else": {"required": ["email"]}, "additionalProperties": false}`)), gives(mcp.NewTextContent("ok")))
	srv.AddTool(mcp.NewToolWithRawSchema("test_custom_headers", "Its parameters travel in headers too", json.RawMessage(`{"type":"object","properties":{
		"region":{"type":"string","x-mcp-header":"Region"},"priority":{"type":"integer","x-mcp-header":"Priority"},"query":{"type":"string"}},"required":["region"]}`)),
		gives(mcp.NewTextContent("ok")))
}

// addTalkingTools adds the tools that talk to the client while they run.
func addTalkingTools(srv *server.MCPServer) {
	srv.AddTool(fixture("test_tool_with_logging"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for _, text := range []string{"Tool execution started", "Tool processing data", "Tool execution completed"} {
			if err := srv.SendLogMessageToClient(ctx, mcp.NewLoggingMessageNotification(mcp.LoggingLevelInfo, "fixtures", text)); err != nil {
				return nil, err
			}
		}
		return mcp.NewToolResultText("Tool with logging executed successfully"), nil
	})
	srv.AddTool(fixture("test_tool_with_progress"), func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if r.Params.Meta != nil && r.Params.Meta.ProgressToken != nil {
			for _, at := range []int{0, 50, 100} {
				params := map[string]any{"progressToken": r.Params.Meta.ProgressToken, "progress": at, "total": 100}
				if err := srv.SendNotificationToClient(ctx, string(mcp.MethodNotificationProgress), params); err != nil {
					return nil, err
				}
			}
		}
		return mcp.NewToolResultText("progress reported"), nil
	})
	srv.AddTool(fixture("test_sampling", mcp.WithString("prompt", mcp.Required())), func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		res, err := srv.RequestSampling(ctx, mcp.CreateMessageRequest{ //nolint:staticcheck // the suite asks for it
			Request: mcp.Request{Method: string(mcp.MethodSamplingCreateMessage)}, CreateMessageParams: sample(r.GetString("prompt", ""), 100),
		})
		if err != nil {
			return mcp.NewToolResultError(err.Error()), nil
		}
		return mcp.NewToolResultText("LLM response: " + sampled(res)), nil
	})
	elicit := func(name, prefix, message string, properties map[string]any, required ...string) {
		srv.AddTool(fixture(name, mcp.WithString("message")), func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			res, err := srv.RequestElicitation(ctx, mcp.ElicitationRequest{
				Request: mcp.Request{Method: string(mcp.MethodElicitationCreate)}, Params: form(r.GetString("message", message), properties, required...),
			})
			if err != nil {
				return mcp.NewToolResultError(err.Error()), nil
			}
			return mcp.NewToolResultText(fmt.Sprintf("%s: action=%s, content=%v", prefix, res.Action, res.Content)), nil
		})
	}
	elicit("test_elicitation", "User response", "", map[string]any{
		"username": described("User's response"), "email": described("User's email address"),
	}, "username", "email")
	elicit("test_elicitation_sep1034_defaults", "Elicitation completed", "Fill in what is there", map[string]any{
		"name": typed("string", "default", "John Doe"), "age": typed("integer", "default", 30), "score": typed("number", "default", 95.5),
		"status": typed("string", "default", "active", "enum", []string{"active", "inactive", "pending"}), "verified": typed("boolean", "default", true),
	})
	titled := []any{map[string]any{"const": "value1", "title": "First"}, map[string]any{"const": "value2", "title": "Second"}}
	plain := []string{"option1", "option2", "option3"}
	elicit("test_elicitation_sep1330_enums", "Elicitation completed", "Choose", map[string]any{
		"untitledSingle": typed("string", "enum", plain), "titledSingle": typed("string", "oneOf", titled),
		"legacyEnum":    typed("string", "enum", []string{"opt1", "opt2"}, "enumNames", []string{"Option One", "Option Two"}),
		"untitledMulti": typed("array", "items", typed("string", "enum", plain)), "titledMulti": typed("array", "items", map[string]any{"anyOf": titled}),
	})
}

func typed(kind string, more ...any) map[string]any {
	out := map[string]any{"type": kind}
	for i := 0; i < len(more); i += 2 {
		out[more[i].(string)] = more[i+1]
	}
	return out
}

func described(text string) map[string]any { return typed("string", "description", text) }

func form(message string, properties map[string]any, required ...string) mcp.ElicitationParams {
	schema := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return mcp.ElicitationParams{Message: message, RequestedSchema: schema}
}

func sample(prompt string, tokens int) mcp.CreateMessageParams {
	return mcp.CreateMessageParams{Messages: []mcp.SamplingMessage{{Role: mcp.RoleUser, Content: mcp.NewTextContent(prompt)}}, MaxTokens: tokens}
}

func sampled(res *mcp.CreateMessageResult) string {
	if t, ok := res.Content.(mcp.TextContent); ok {
		return t.Text
	}
	return "No response"
}

// sealed states: the state of a multi-round call that a client can't alter.
func seal(text string) string {
	mac := hmac.New(sha256.New, []byte("the fixtures' key"))
	mac.Write([]byte(text))
	return text + "." + hex.EncodeToString(mac.Sum(nil))
}

func unseal(state string) (string, error) {
	text, _, _ := strings.Cut(state, ".")
	if !hmac.Equal([]byte(seal(text)), []byte(state)) {
		return "", errors.New("the request state was altered")
	}
	return text, nil
}

// addMultiRoundTools adds the tools whose first answer is a question (SEP-2322).
func addMultiRoundTools(srv *server.MCPServer) {
	name := form("What is your name?", map[string]any{"name": typed("string")}, "name")
	ok := form("Please confirm", map[string]any{"ok": typed("boolean")}, "ok")
	answered := func(r mcp.CallToolRequest, id string) bool {
		_, yes := server.InputResponse(r.Params.InputResponses, id)
		return yes
	}
	ask := func(state string) *server.InputRequestBuilder { return server.NewInputRequestBuilder(state) }
	for tool, f := range map[string]toolFunc{
		"test_input_required_result_elicitation": func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			res := server.ElicitationResponse(r.Params.InputResponses, "user_name")
			if res == nil {
				return ask("").Elicit("user_name", name).ToolResult(), nil
			}
			content, _ := res.Content.(map[string]any)
			return mcp.NewToolResultText(fmt.Sprintf("Hello, %v!", content["name"])), nil
		},
		"test_input_required_result_sampling": func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			res := server.SamplingResponse(r.Params.InputResponses, "capital_question")
			if res == nil {
				return ask("").Sample("capital_question", sample("What is the capital of France?", 100)).ToolResult(), nil
			}
			return mcp.NewToolResultText(sampled(res)), nil
		},
		"test_input_required_result_list_roots": func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			res := server.RootsResponse(r.Params.InputResponses, "client_roots")
			if res == nil {
				return ask("").Roots("client_roots").ToolResult(), nil
			}
			return mcp.NewToolResultText(fmt.Sprintf("Roots: %+v", res.Roots)), nil
		},
		"test_input_required_result_request_state": func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if !answered(r, "confirm") {
				return ask(seal("confirm")).Elicit("confirm", ok).ToolResult(), nil
			}
			if _, err := unseal(r.Params.RequestState); err != nil {
				return nil, err
			}
			return mcp.NewToolResultText("state-ok"), nil
		},
		"test_input_required_result_tampered_state": func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if r.Params.RequestState == "" {
				return ask(seal("tamper")).Elicit("confirm", ok).ToolResult(), nil
			}
			if _, err := unseal(r.Params.RequestState); err != nil {
				return nil, err
			}
			return mcp.NewToolResultText("state-ok"), nil
		},
		"test_input_required_result_multiple_inputs": func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if !answered(r, "user_name") || !answered(r, "greeting") || !answered(r, "client_roots") {
				return ask(seal("many")).Elicit("user_name", name).Sample("greeting", sample("Generate a greeting", 50)).Roots("client_roots").ToolResult(), nil
			}
			return mcp.NewToolResultText("all answered"), nil
		},
		"test_input_required_result_multi_round": func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			step, err := "", error(nil)
			if r.Params.RequestState != "" {
				if step, err = unseal(r.Params.RequestState); err != nil {
					return nil, err
				}
			}
			switch {
			case step == "two" && answered(r, "step2"):
				return mcp.NewToolResultText("both steps answered"), nil
			case step == "one" && answered(r, "step1"):
				return ask(seal("two")).Elicit("step2", form("Step 2: What is your favorite color?", map[string]any{"color": typed("string")}, "color")).ToolResult(), nil
			}
			return ask(seal("one")).Elicit("step1", form("Step 1: What is your name?", map[string]any{"name": typed("string")}, "name")).ToolResult(), nil
		},
		"test_input_required_result_capabilities": func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			info := server.RequestProtocolInfoFromContext(ctx)
			if info == nil || info.ClientCapabilities == nil {
				return mcp.NewToolResultText("nothing can be asked"), nil
			}
			b := ask("")
			if info.ClientCapabilities.Elicitation != nil {
				b.Elicit("user_name", name)
			}
			if info.ClientCapabilities.Sampling != nil {
				b.Sample("greeting", sample("Generate a greeting", 50))
			}
			return b.ToolResult(), nil
		},
	} {
		srv.AddTool(fixture(tool), f)
	}
}

// addStatelessTools adds what the suite's scenario of the stateless core looks at.
func addStatelessTools(srv *server.MCPServer) {
	srv.AddTool(fixture("test_missing_capability"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		info := server.RequestProtocolInfoFromContext(ctx)
		if info == nil || info.ClientCapabilities == nil || info.ClientCapabilities.Sampling == nil {
			return nil, mcp.MissingRequiredClientCapabilityError{Capability: "sampling"}
		}
		return mcp.NewToolResultText("ok"), nil
	})
	srv.AddTool(fixture("test_streaming_elicitation"), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if server.ElicitationResponse(r.Params.InputResponses, "confirm") == nil {
			return server.NewInputRequestBuilder("").Elicit("confirm", form("Go on?", map[string]any{"ok": typed("boolean")})).ToolResult(), nil
		}
		return mcp.NewToolResultText("went on"), nil
	})
	srv.AddTool(fixture("test_logging_tool"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		err := srv.SendLogMessageToClient(ctx, mcp.NewLoggingMessageNotification(mcp.LoggingLevelInfo, "fixtures", "a line"))
		return mcp.NewToolResultText("logged"), err
	})
	srv.AddTool(fixture("test_trigger_tool_change"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		srv.AddTool(fixture("test_changed_tool"), gives(mcp.NewTextContent("new")))
		return mcp.NewToolResultText("changed"), nil
	})
	srv.AddTool(fixture("test_trigger_prompt_change"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		srv.AddPrompt(mcp.NewPrompt("test_changed_prompt", mcp.WithPromptDescription("new")), prompts("", mcp.NewTextContent("new")))
		return mcp.NewToolResultText("changed"), nil
	})
}

func addFixtureResources(srv *server.MCPServer) {
	read := func(c mcp.ResourceContents) func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
		return func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			return []mcp.ResourceContents{c}, nil
		}
	}
	srv.AddResource(mcp.NewResource("test://static-text", "static-text", mcp.WithMIMEType("text/plain")),
		read(mcp.TextResourceContents{URI: "test://static-text", MIMEType: "text/plain", Text: "This is the content of the static text resource."}))
	srv.AddResource(mcp.NewResource("test://static-binary", "static-binary", mcp.WithMIMEType("image/png")),
		read(mcp.BlobResourceContents{URI: "test://static-binary", MIMEType: "image/png", Blob: pixel()}))
	srv.AddResource(mcp.NewResource("test://watched-resource", "watched-resource", mcp.WithMIMEType("text/plain")),
		read(mcp.TextResourceContents{URI: "test://watched-resource", MIMEType: "text/plain", Text: "watched"}))
	srv.AddResourceTemplate(mcp.NewResourceTemplate("test://template/{id}/data", "template", mcp.WithTemplateMIMEType("application/json")),
		func(_ context.Context, r mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			id := strings.TrimSuffix(strings.TrimPrefix(r.Params.URI, "test://template/"), "/data")
			raw, err := json.Marshal(map[string]any{"id": id, "templateTest": true, "data": "Data for ID: " + id})
			return []mcp.ResourceContents{mcp.TextResourceContents{URI: r.Params.URI, MIMEType: "application/json", Text: string(raw)}}, err
		})
}

// prompts gives the contents as messages; with a text, that text with the arguments in it
// comes first.
func prompts(format string, contents ...mcp.Content) server.PromptHandlerFunc {
	return func(_ context.Context, r mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		out := &mcp.GetPromptResult{}
		if format != "" {
			contents = []mcp.Content{mcp.NewTextContent(strings.NewReplacer("{1}", r.Params.Arguments["arg1"], "{2}", r.Params.Arguments["arg2"]).Replace(format))}
		}
		for _, c := range contents {
			out.Messages = append(out.Messages, mcp.NewPromptMessage(mcp.RoleUser, c))
		}
		return out, nil
	}
}

func addFixturePrompts(srv *server.MCPServer) {
	arg := func(name string) mcp.PromptOption {
		return mcp.WithArgument(name, mcp.ArgumentDescription("An argument"), mcp.RequiredArgument())
	}
	text := mcp.WithPromptDescription("A fixture")
	srv.AddPrompt(mcp.NewPrompt("test_simple_prompt", text), prompts("This is a simple prompt for testing."))
	srv.AddPrompt(mcp.NewPrompt("test_prompt_with_arguments", text, arg("arg1"), arg("arg2")), prompts("Prompt with arguments: arg1='{1}', arg2='{2}'"))
	srv.AddPrompt(mcp.NewPrompt("test_prompt_with_image", text), prompts("", mcp.NewImageContent(pixel(), "image/png"), mcp.NewTextContent("Please analyze the image above.")))
	srv.AddPrompt(mcp.NewPrompt("test_prompt_with_embedded_resource", text, arg("resourceUri")), func(ctx context.Context, r mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return prompts("", embedded(r.Params.Arguments["resourceUri"], "text/plain", "Embedded resource content for testing."), mcp.NewTextContent("Please process the embedded resource above."))(ctx, r)
	})
	srv.AddPrompt(mcp.NewPrompt("test_input_required_result_prompt", text), func(_ context.Context, r mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		if server.ElicitationResponse(r.Params.InputResponses, "user_context") == nil {
			return server.NewInputRequestBuilder("").Elicit("user_context", form("What context should the prompt use?", map[string]any{"context": typed("string")}, "context")).PromptResult(), nil
		}
		return prompts("With that context.")(context.Background(), r)
	})
}
