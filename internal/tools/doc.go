// Package tools is the MCP door of Hourglass: the tools bundle, deploy_temporary,
// status and request_claim, and the stdio transport that carries them.
//
// A door translates and decides nothing. It turns the arguments of a call into a
// request to the Service (strictly: what it does not know it refuses by name), the
// Service's result into a few hundred tokens for a language model, and its errors
// into {"error":{code,message,next,retry_after_seconds}} as text. Where a human has
// to be asked and the client can ask one, it asks through the client (elicitation),
// in both eras of the protocol. Every text that leaves passes the redactor in one
// place (reply.go).
package tools
