package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// apiError is a refusal of the API, in its own terms.
type apiError struct {
	status  int
	code    int
	message string
	retry   time.Duration // sent as Retry-After
}

func (e *apiError) Error() string { return fmt.Sprintf("%s [code: %d]", e.message, e.code) }

func refuse(status, code int, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// The refusals that several endpoints share.
func errAuth(status int) *apiError { return refuse(status, 10000, "Authentication error") }

func errNoScript(name string) *apiError {
	return refuse(http.StatusNotFound, 10007, "This Worker does not exist on your account: %s", name)
}

// info is the paging block of a list.
type info struct {
	Page       int `json:"page"`
	PerPage    int `json:"per_page"`
	Count      int `json:"count"`
	TotalCount int `json:"total_count"`
	TotalPages int `json:"total_pages"`
}

// answer is what a handler gives back.
type answer struct {
	status int // 0: 200
	result any
	info   any // the paging block
	// written says that the handler wrote the answer itself.
	written bool
}

type message struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (s *Sandbox) writeAnswer(w http.ResponseWriter, a answer) {
	if a.written {
		return
	}
	body := map[string]any{"success": true, "errors": []message{}, "messages": []message{}, "result": a.result}
	if a.info != nil {
		body["result_info"] = a.info
	}
	writeJSON(w, max(a.status, http.StatusOK), body)
}

func (s *Sandbox) writeError(w http.ResponseWriter, e *apiError) {
	if e.retry > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(int(e.retry.Seconds())))
	}
	writeJSON(w, e.status, map[string]any{
		"success": false, "errors": []message{{e.code, e.message}}, "messages": []message{}, "result": nil,
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"success":false,"errors":[{"code":10001,"message":"an answer could not be written"}],"messages":[],"result":null}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
