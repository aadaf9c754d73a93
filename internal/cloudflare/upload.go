package cloudflare

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"slices"
	"strings"

	"github.com/cloudflare/cloudflare-go/v7/option"
	"github.com/cloudflare/cloudflare-go/v7/workers"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const doingUpload = "uploading the Worker"

// Upload uploads static files and modules as one new version, which is deployed at
// once (section 5.1, step 13: PUT also on a redeploy; keep_bindings keeps secrets).
//
// Uploaded.VersionID is a lower-case UUID with hyphens, or "" when the API names no
// version in a form that it has. The upload is repeated after a failure of the
// moment: twice the same content comes to one deployed version. CodeAccountLost means
// that the token itself is not accepted; a token that works otherwise makes the same
// answer a CodeAPIRefused.
func (c *Client) Upload(ctx context.Context, acct *deploy.Account, up deploy.Upload) (*deploy.Uploaded, error) {
	if err := checkAccount(acct); err != nil {
		return nil, err
	}
	if err := checkArtifact(up.Artifact); err != nil {
		return nil, err
	}
	out := &deploy.Uploaded{}
	token := ""
	if up.Artifact.Assets != nil {
		var err error
		if token, err = c.uploadAssets(ctx, acct, up.Artifact, out); err != nil {
			return nil, c.reallyLost(ctx, acct, up.Artifact.Name, err)
		}
	}
	if _, err := metadata(up, token); err != nil {
		return nil, err
	}
	uploaded, err := step(ctx, c, deploy.StepUploadScript, up.Artifact.Name, func() (*deploy.Uploaded, string, error) {
		err := c.putScript(ctx, acct, up, token, out)
		return out, out.VersionID, err
	})
	if err != nil {
		return nil, c.reallyLost(ctx, acct, up.Artifact.Name, err)
	}
	return uploaded, nil
}

// putScript uploads the modules, again as often as it takes: it is the same version's
// content, and the newest one is the one that serves. A migration of Durable Object
// classes is not had twice: when the API says that another tag is the Worker's by now,
// and that tag is ours, a try whose answer was lost brought it there, and what is left
// goes without.
func (c *Client) putScript(ctx context.Context, acct *deploy.Account, up deploy.Upload, token string, out *deploy.Uploaded) error {
	result, err := c.putOnce(ctx, acct, up, token)
	if codeOf(err) == codeMigrated && up.Objects != nil {
		tag, errTag := c.objectTag(ctx, acct, up.Artifact.Name)
		if errTag != nil || tag == "" || tag != up.Objects["new_tag"] {
			return err
		}
		up.Objects = nil
		result, err = c.putOnce(ctx, acct, up, token)
	}
	if err != nil {
		return err
	}
	return parseUploaded(result, out)
}

func (c *Client) putOnce(ctx context.Context, acct *deploy.Account, up deploy.Upload, token string) (json.RawMessage, error) {
	meta, err := metadata(up, token)
	if err != nil {
		return nil, err
	}
	contentType, body, err := multipartBody(meta, up.Artifact.Modules)
	if err != nil {
		return nil, internal(err)
	}
	t := try{doing: doingUpload, timeout: c.cfg.UploadTimeout, repeat: true, final: codeMigrated}
	return c.call(ctx, t, func(ctx context.Context, opts ...option.RequestOption) error {
		params := workers.ScriptUpdateParams{}
		params.AccountID.Value, params.AccountID.Present = acct.ID, true
		opts = append(opts,
			option.WithQuery("excludeScript", "true"), // don't send the code back
			option.WithQuery("bindings_inherit", "strict"),
			option.WithRequestBody(contentType, bytes.NewReader(body)))
		_, err := workers.NewScriptService(c.with(acct)...).Update(ctx, up.Artifact.Name, params, opts...)
		return err
	})
}

func checkArtifact(a *deploy.Artifact) error {
	if a == nil {
		return internal(errors.New("an upload without an artifact"))
	}
	if err := checkWorker(a.Name); err != nil {
		return err
	}
	named := slices.ContainsFunc(a.Modules, func(m deploy.Module) bool { return m.Name == a.MainModule })
	switch {
	case a.MainModule != "" && !named:
		return internal(fmt.Errorf("the main module %q is not among the modules", a.MainModule))
	case a.MainModule == "" && len(a.Modules) > 0:
		return internal(errors.New("modules without a main module"))
	case a.MainModule == "" && a.Assets == nil:
		return deploy.Errorf(deploy.CodeNoEntry, "Give an entry file, or a folder of static files.",
			"there is neither code nor a static file to deploy")
	}
	return nil
}

// parseUploaded reads the answer to an upload.
func parseUploaded(result []byte, out *deploy.Uploaded) error {
	var in struct {
		Version string  `json:"deployment_id"`
		Startup float64 `json:"startup_time_ms"`
	}
	if json.Unmarshal(result, &in) != nil {
		return missing(doingUpload, "deployment_id or startup_time_ms")
	}
	out.VersionID = versionID(in.Version)
	out.StartupMS = int(min(max(in.Startup, 0), 1e6))
	return nil
}

// versionID gives a version's ID in one form: the API writes it with hyphens in
// some answers and without in others. "" for anything else.
func versionID(s string) string {
	h := strings.ToLower(strings.ReplaceAll(s, "-", ""))
	if raw, err := hex.DecodeString(h); err != nil || len(raw) != 16 {
		return ""
	}
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// reallyLost looks twice at a token that was not accepted. The API answers 10000 also
// to an upload that asks for what the account can't have (section 21); then the
// account is as good as before, and giving it up would lose what is live on it.
func (c *Client) reallyLost(ctx context.Context, acct *deploy.Account, worker string, err error) error {
	if !deploy.IsCode(err, deploy.CodeAccountLost) {
		return err
	}
	switch asked := c.askAccount(ctx, acct, worker); {
	case deploy.IsCode(asked, deploy.CodeAccountLost):
		return err
	case asked != nil:
		return asked // don't know; losing an account can't be undone
	}
	refused := deploy.AsError(err)
	return deploy.Errorf(deploy.CodeAPIRefused,
		"Look at the bindings and settings in the wrangler configuration: temporary accounts have static assets, KV, D1, Durable Objects, Queues and cron triggers, and little else. Remove what they lack, then deploy again.",
		"%s failed: the API accepts the account's token, but not for this upload; it probably asks for something that temporary accounts can't have", doingUpload).Caused(refused)
}

// askAccount makes a call that every deployment by wrangler makes, to see whether the
// token is accepted; that the account has no such Worker is as good an answer as any.
func (c *Client) askAccount(ctx context.Context, acct *deploy.Account, worker string) error {
	_, err := c.call(ctx, try{doing: "asking whether the account's token still works", timeout: c.cfg.Timeout, repeat: true}, func(ctx context.Context, opts ...option.RequestOption) error {
		params := workers.ScriptDeploymentListParams{}
		params.AccountID.Value, params.AccountID.Present = acct.ID, true
		_, err := workers.NewScriptDeploymentService(c.with(acct)...).List(ctx, worker, params, opts...)
		return err
	})
	if deploy.IsCode(err, deploy.CodeAPIRefused) {
		return nil // it knows who asks
	}
	return err
}

// multipartBody writes the parts as wrangler does (section 6): metadata, without a
// file name and a type, then the modules in the artifact's order, each under its
// name. Source maps come last there.
func multipartBody(meta []byte, modules []deploy.Module) (contentType string, body []byte, err error) {
	size := len(meta) + 1024
	for _, m := range modules {
		size += len(m.Content) + 512
	}
	buf := bytes.NewBuffer(make([]byte, 0, size))
	w := multipart.NewWriter(buf)
	if err := writePart(w, `form-data; name="metadata"`, "", meta); err != nil {
		return "", nil, err
	}
	for _, m := range modules {
		name := partName(m.Name)
		if err := writePart(w, `form-data; name="`+name+`"; filename="`+name+`"`, m.Type, m.Content); err != nil {
			return "", nil, err
		}
	}
	if err := w.Close(); err != nil {
		return "", nil, fmt.Errorf("multipart body: %w", err)
	}
	return w.FormDataContentType(), buf.Bytes(), nil
}

func writePart(w *multipart.Writer, disposition, contentType string, content []byte) error {
	header := textproto.MIMEHeader{"Content-Disposition": {disposition}}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	part, err := w.CreatePart(header)
	if err == nil {
		_, err = part.Write(content)
	}
	if err != nil {
		return fmt.Errorf("multipart body: %w", err)
	}
	return nil
}

// partName escapes a name as browsers and undici do.
func partName(s string) string {
	return strings.NewReplacer(`"`, "%22", "\r", "%0D", "\n", "%0A").Replace(s)
}
