package workerd

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// release is the npm package that holds workerd for one platform.
type release struct {
	name, version, maxDate, integrity string
}

// Versions. The newest was published for Linux only when this was written; the other
// platforms stood at the older one (dependencies sheet).
const (
	newest     = "1.20261117.1"
	newestDate = "2026-11-17"
	older      = "1.20261023.1"
	olderDate  = "2026-10-23"
)

// releaseFor names the package for a platform, with the SHA-512 of its archive as npm's
// registry gave it (dist.integrity).
func releaseFor(goos, goarch string) (release, bool) {
	r, ok := map[string]release{
		"linux/amd64":   {"linux-64", newest, newestDate, "gZLA8X11m/luZwn+YA3+mDu61vdxNJzpksP/QZqjydKTQ+VUCulsK5gtn9Bqst1p3KJu2kafQpJ1nDQv4B23jA=="},
		"linux/arm64":   {"linux-arm64", newest, newestDate, "gxWngFojq41ULKNKb9rpWYvKotN5hT2I/xot+Bpy31cXzrwcTgtDLSMb2t75sW5BJxH7hihFvikgYb577kB3Zg=="},
		"darwin/amd64":  {"darwin-64", older, olderDate, "lsEx0i7nR0PNG/erUFFHmQmiidEhLfDE5uQmAL9421/y4/ycuxDDOSaxu3VGGYFFPK5sduyUeMmjIlX4CwOBFg=="},
		"darwin/arm64":  {"darwin-arm64", older, olderDate, "5e79fHgabdDD8EgmjOhJ1S+xMsf6DbC7fL7IgTBizMnzOp0P2isDn7pYmUxI9AJZE9FVQ4RUilH/I36YNg+GQQ=="},
		"windows/amd64": {"windows-64", older, olderDate, "279WLVjNsMycAwr0EZNiNEf0l2SY6NUtsN80NwZzbTHzakmiN+WSx4w38muxPm+PAU0oSPPAPXKVD+H6Hya8xw=="},
	}[goos+"/"+goarch]
	r.name = "@cloudflare/workerd-" + r.name
	return r, ok
}

// ours is the release for this machine. On Linux the runtime needs glibc: its loader
// must be there (root is "/" but in tests).
func ours(goos, goarch, root string) (release, error) {
	r, ok := releaseFor(goos, goarch)
	if !ok {
		return r, &Error{
			Code:    CodeUnsupported,
			Message: fmt.Sprintf("there is no workerd for %s/%s, so the sandbox can't run here", goos, goarch),
			Next:    "use Linux or macOS on amd64 or arm64, or deploy to the real platform (--platform cloudflare)",
		}
	}
	loader := map[string]string{"linux/amd64": "lib64/ld-linux-x86-64.so.2", "linux/arm64": "lib/ld-linux-aarch64.so.1"}[goos+"/"+goarch]
	if loader == "" {
		return r, nil
	}
	if _, err := os.Stat(filepath.Join(root, loader)); err != nil {
		return r, &Error{
			Code:    CodeUnsupported,
			Message: "workerd needs the GNU C library, and /" + loader + " is not on this system (Alpine and others use musl)",
			Next:    "use a system with glibc 2.27 or newer, such as Debian, Ubuntu or Fedora",
			Cause:   err,
		}
	}
	return r, nil
}

// executable is the name of the program in the package and in the cache.
func executable() string {
	if runtime.GOOS == "windows" {
		return "workerd.exe"
	}
	return "workerd"
}
