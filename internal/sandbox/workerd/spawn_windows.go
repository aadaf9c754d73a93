package workerd

import "os/exec"

// spawn refuses: the runtime would need unix sockets and an inherited pipe, and nothing
// would end it when we are killed.
func spawn(*exec.Cmd, Config) (*child, error) {
	return nil, &Error{
		Code:    CodeUnsupported,
		Message: "the sandbox can't run Workers on Windows itself",
		Next:    "run this command inside WSL, or deploy to the real platform (--platform cloudflare)",
	}
}
