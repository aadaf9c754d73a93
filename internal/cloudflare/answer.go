package cloudflare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// maxAnswer bounds what is read of one answer, in bytes. The largest that was
// measured is an asset session's: about 35 bytes a file.
const maxAnswer = 8 << 20

// errTooLong is what reading a longer answer gives.
var errTooLong = errors.New("the answer is longer than 8 MiB")

// answer is an API's answer, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// readAnswer reads and closes the body.
func readAnswer(res *http.Response) (*answer, error) {
	defer res.Body.Close() //nolint:errcheck // nothing is written
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, errTooLong
	}
	return &answer{res.StatusCode, res.Header, body}, nil
}

// apiError is one row of an envelope's errors.
type apiError struct {
	Code    int
	Message string
}

// envelope is what the API wraps every answer in (section 4).
type envelope struct {
	Success *bool // nil: it does not say
	Errors  []apiError
	Result  json.RawMessage
}

// parseEnvelope reads an answer's body. It is strict about what decides (success has
// to be a boolean) and lenient about what explains: rows of errors that have another
// shape are left out, null counts as absent.
func parseEnvelope(body []byte) (*envelope, error) {
	var raw struct {
		Success *bool           `json:"success"`
		Errors  json.RawMessage `json:"errors"`
		Result  json.RawMessage `json:"result"`
	}
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, errors.New("it is not a JSON object")
	}
	if err := json.Unmarshal(trimmed, &raw); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, errors.New("a field of it has the wrong type")
		}
		return nil, errors.New("it is broken JSON")
	}
	env := &envelope{Success: raw.Success, Result: raw.Result}
	if string(raw.Result) == "null" {
		env.Result = nil
	}
	var rows []json.RawMessage
	_ = json.Unmarshal(raw.Errors, &rows) // what is no list explains nothing
	for _, r := range rows {
		var row struct {
			Code    json.Number `json:"code"`
			Message string      `json:"message"`
		}
		if json.Unmarshal(r, &row) != nil {
			continue
		}
		code, err := strconv.Atoi(row.Code.String())
		if err != nil && row.Message == "" {
			continue
		}
		env.Errors = append(env.Errors, apiError{code, row.Message})
	}
	return env, nil
}

// judge gives an answer's result, or what is wrong with the answer. doing names the
// call for people: "uploading the Worker".
//
// As wrangler does, it goes by success, which has to be there; a success with an
// HTTP status of an error is taken for neither.
func (c *Client) judge(a *answer, doing string) (json.RawMessage, *failure) {
	env, err := parseEnvelope(a.body)
	if err == nil && env.Success != nil && *env.Success && a.status < 300 {
		return env.Result, nil
	}
	if err == nil && len(env.Errors) == 0 && a.status < 300 && env.Success == nil {
		return nil, &failure{err: badResponse(doing, "it does not say whether it succeeded"), lost: true}
	}
	f := c.refused(a, env, err, doing)
	if f.code != 0 && f.err.Cause == nil {
		f.err.Cause = apiCode(f.code)
	}
	return nil, f
}

// refused turns an answer that is no success into a failure. env is nil, and parse
// says why, when the answer is not the API's at all.
func (c *Client) refused(a *answer, env *envelope, parse error, doing string) *failure {
	first := apiError{}
	if env != nil && len(env.Errors) > 0 {
		first = env.Errors[0]
	}
	switch {
	case a.status == http.StatusTooManyRequests:
		return &failure{err: c.rateLimited(a, doing), again: true, reason: ReasonRateLimited, code: first.Code}
	case a.status >= 300 && a.status < 400:
		return &failure{err: badResponse(doing, fmt.Sprintf("it is a redirect (HTTP %d), which is not followed", a.status))}
	case a.header.Get("Cf-Mitigated") == "challenge":
		return &failure{err: deploy.Errorf(deploy.CodeAPIRefused,
			"Tell the user that Cloudflare's bot protection blocks the network of this server; another network may work.",
			"%s failed: Cloudflare's firewall answered instead of the API (HTTP %d)", doing, a.status)}
	case a.status >= 500:
		e := deploy.Errorf(deploy.CodeAPIBadResponse, nextLater, "%s failed: the API answered HTTP %d%s", doing, a.status, said(env))
		e.RetryAfter = c.retryAfter(a)
		f := moment(ReasonServerError, e)
		f.code = first.Code
		return f
	case first.Code != 0 || first.Message != "":
		known, _ := entry(first.Code)
		return &failure{err: fromCatalogue(a.status, env.Errors, doing), code: first.Code, again: known.Retry, reason: ReasonNotNow}
	case a.status == http.StatusUnauthorized && parse == nil:
		return &failure{err: fromCatalogue(a.status, []apiError{{codeNotAuthorized, "HTTP 401"}}, doing), code: codeNotAuthorized}
	case parse != nil:
		e := badResponse(doing, fmt.Sprintf("HTTP %d%s, and %s", a.status, kind(a), parse))
		switch a.status {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
			return &failure{err: e, lost: true} // something between answers, and says no
		}
		return moment(ReasonNotJSON, e)
	}
	return &failure{err: deploy.Errorf(deploy.CodeAPIRefused, nextUser,
		"%s failed: the API refused it (HTTP %d) without saying why", doing, a.status)}
}

const (
	nextLater = "Wait a minute, then make the same call again; what was live before is still live."
	nextUser  = "Don't repeat the call unchanged. Tell the user what the API said."
)

// said gives the API's own words, cut and on one line, in the form ": code 1: words".
func said(env *envelope) string {
	if env == nil || len(env.Errors) == 0 {
		return ""
	}
	return ": " + words(env.Errors, maxWords)
}

// maxWords bounds the API's own words in a message, in bytes.
const maxWords = 400

// words joins up to three errors, one line each.
func words(errs []apiError, size int) string {
	var parts []string
	for _, e := range errs[:min(len(errs), 3)] {
		text := strings.TrimSpace(cut(clean(e.Message), size))
		switch {
		case text == "":
			parts = append(parts, fmt.Sprintf("API error %d", e.Code))
		case e.Code != 0:
			parts = append(parts, fmt.Sprintf("API error %d: %s", e.Code, text))
		default:
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "; ")
}

func badResponse(doing, why string) *deploy.Error {
	return deploy.Errorf(deploy.CodeAPIBadResponse,
		"Make the same call once more. If it fails again, tell the user that the address of the API may be wrong, or that something between answers in its place.",
		"%s failed: the answer is not what the API gives: %s", doing, why)
}

// kind says what an answer calls itself, for a message: ", text/html".
func kind(a *answer) string {
	t, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	t = cut(clean(strings.TrimSpace(t)), 60)
	if t == "" {
		return ""
	}
	return ", " + t
}

func (c *Client) rateLimited(a *answer, doing string) *deploy.Error {
	e := &deploy.Error{
		Code: deploy.CodeRateLimited, Message: doing + " failed: the API limits how often this may be done (HTTP 429)",
		Next:       "Wait at least a minute, then make the same call once; don't try in a loop.",
		RetryAfter: c.retryAfter(a),
	}
	if e.RetryAfter > 0 {
		e.Next = fmt.Sprintf("Wait %d seconds, then make the same call once; don't try in a loop.", int(e.RetryAfter.Seconds()+0.999))
	}
	return e
}

// retryAfter reads Retry-After, in seconds or as a date by the API's own clock; 0:
// it does not say. No more than a day is believed.
func (c *Client) retryAfter(a *answer) time.Duration {
	v := strings.TrimSpace(a.header.Get("Retry-After"))
	var d time.Duration
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		now, err := http.ParseTime(a.header.Get("Date"))
		if err != nil {
			now = c.cfg.Now()
		}
		d = t.Sub(now)
	}
	return min(max(d, 0), 24*time.Hour)
}
