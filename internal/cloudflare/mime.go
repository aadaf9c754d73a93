package cloudflare

import "strings"

// noMediaType is what is sent for a file of unknown kind; it is served without a
// Content-Type (section 9).
const noMediaType = "application/null"

// mediaType is the type that a static file is served with. It is wrangler's table as
// far as section 9 tells it, and not the machine's own, so that the same file gets
// the same type from everywhere.
func mediaType(path string) string {
	t := byExtension(strings.ToLower(extension(path)))
	if strings.HasPrefix(t, "text/") {
		return t + "; charset=utf-8"
	}
	return t
}

func byExtension(ext string) string { //nolint:gocyclo,cyclop // a table
	switch ext {
	case "html", "htm", "shtml":
		return "text/html"
	case "js", "mjs":
		return "text/javascript"
	case "cjs":
		return "application/node"
	case "css", "csv", "jsx":
		return "text/" + ext
	case "txt", "log", "text", "conf", "def", "in", "ini", "list":
		return "text/plain"
	case "md", "markdown":
		return "text/markdown"
	case "yaml", "yml":
		return "text/yaml"
	case "vtt", "vcard":
		return "text/" + ext
	case "ics", "ifb":
		return "text/calendar"
	case "json", "map":
		return "application/json"
	case "xml", "xsl", "xsd", "rng":
		return "application/xml"
	case "rss", "atom", "xhtml":
		return "application/" + ext + "+xml"
	case "json5", "pdf", "zip", "wasm", "rtf", "toml":
		return "application/" + ext
	case "jsonld":
		return "application/ld+json"
	case "geojson":
		return "application/geo+json"
	case "webmanifest":
		return "application/manifest+json"
	case "gz":
		return "application/gzip"
	case "tar":
		return "application/x-tar"
	case "7z":
		return "application/x-7z-compressed"
	case "bin", "exe", "dll", "deb", "dmg", "iso", "img", "msi", "dump", "so", "dist", "pkg":
		return "application/octet-stream"
	case "eot":
		return "application/vnd.ms-fontobject"
	case "woff", "woff2", "ttf", "otf":
		return "font/" + ext
	case "svg", "svgz":
		return "image/svg+xml"
	case "jpg", "jpeg", "jpe":
		return "image/jpeg"
	case "tif", "tiff":
		return "image/tiff"
	case "png", "gif", "webp", "avif", "apng", "bmp", "heic", "heif":
		return "image/" + ext
	case "ico":
		return "image/vnd.microsoft.icon"
	case "mp3", "m2a", "mpga":
		return "audio/mpeg"
	case "m4a", "mp4a":
		return "audio/mp4"
	case "oga", "ogg", "opus", "spx":
		return "audio/ogg"
	case "wav", "aac":
		return "audio/" + ext
	case "mid", "midi":
		return "audio/midi"
	case "mp4", "mpg4", "mp4v":
		return "video/mp4"
	case "mpeg", "mpg":
		return "video/mpeg"
	case "ogv":
		return "video/ogg"
	case "mov", "qt":
		return "video/quicktime"
	case "ts", "m2t", "m2ts", "mts":
		return "video/mp2t"
	case "webm":
		return "video/webm"
	case "gltf":
		return "model/gltf+json"
	case "glb":
		return "model/gltf-binary"
	}
	return noMediaType
}
