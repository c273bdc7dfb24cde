package http1

import (
	"strconv"
	"time"
)

// Continue is the interim response that asks the client for its body (RFC 9110,
// 15.2.1). It must not be sent to an HTTP/1.0 client.
const Continue = "HTTP/1.1 100 Continue\r\n\r\n"

// PageOptions say how AppendErrorPage writes an answer of the proxy's own.
type PageOptions struct {
	Minor     uint8  // the client's version, HTTP/1.Minor
	KeepAlive bool   // the connection stays open; never after an error of the parser
	Head      bool   // the request was a HEAD: no body
	Date      []byte // nil: no Date
	Body      []byte // in place of the built-in page; nil: that; empty: no body
	Type      string // Content-Type of Body; empty: text/html

	Edits // Remove also takes away Server, Date and Content-Type
}

// AppendErrorPage appends a complete answer, head and body, for the status. It tells
// the name of the server but not its version. A 204 or 304 has no body and no
// field that describes one.
func AppendErrorPage(dst []byte, status int, o *PageOptions) []byte {
	text := StatusText(status)
	if text == "" && status >= 400 {
		text = "Error"
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = appendStatus(dst, status, text)
	dst = append(dst, "\r\n"...)
	if !o.removesID(FieldServer) {
		dst = append(dst, "Server: ringroad\r\n"...)
	}
	if o.Date != nil && !o.removesID(FieldDate) {
		dst = AppendField(dst, "Date", o.Date)
	}
	empty := status == 204 || status == 304
	if !empty {
		if (o.Body == nil || len(o.Body) > 0) && !o.removesID(FieldContentType) {
			dst = append(dst, "Content-Type: "...)
			if o.Type != "" {
				dst = append(dst, o.Type...)
			} else {
				dst = append(dst, "text/html"...)
			}
			dst = append(dst, "\r\n"...)
		}
		length := len(o.Body)
		if o.Body == nil {
			length = len(pageStart) + len(pageMiddle) + len(pageEnd) + 2*(len("nnn ")+len(text))
		}
		dst = appendLength(dst, int64(length))
	}
	dst = appendConnection(dst, !o.KeepAlive, o.KeepAlive && o.Minor == 0, false, false)
	dst = append(dst, o.Add...)
	dst = append(dst, "\r\n"...)
	switch {
	case o.Head || empty:
		return dst
	case o.Body != nil:
		return append(dst, o.Body...)
	}
	dst = append(dst, pageStart...)
	dst = appendStatus(dst, status, text)
	dst = append(dst, pageMiddle...)
	dst = appendStatus(dst, status, text)
	return append(dst, pageEnd...)
}

const (
	pageStart  = "<!DOCTYPE html>\n<html>\n<head><title>"
	pageMiddle = "</title></head>\n<body>\n<h1>"
	pageEnd    = "</h1>\n<hr>\n<p>ringroad</p>\n</body>\n</html>\n"
)

func appendStatus(dst []byte, status int, text string) []byte {
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	return append(dst, text...)
}

// AppendDate appends the time in the format of the Date field (RFC 9110, 5.6.7).
func AppendDate(dst []byte, unixSeconds int64) []byte {
	return time.Unix(unixSeconds, 0).UTC().AppendFormat(dst, "Mon, 02 Jan 2006 15:04:05 GMT")
}

// StatusText is the reason phrase of the status (RFC 9110, 15; RFC 6585; RFC 7725),
// "" for one that is not in use for final responses.
func StatusText(status int) string {
	switch status {
	case 200:
		return "OK"
	case 201:
		return "Created"
	case 202:
		return "Accepted"
	case 203:
		return "Non-Authoritative Information"
	case 204:
		return "No Content"
	case 205:
		return "Reset Content"
	case 206:
		return "Partial Content"
	case 300:
		return "Multiple Choices"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Found"
	case 303:
		return "See Other"
	case 304:
		return "Not Modified"
	case 307:
		return "Temporary Redirect"
	case 308:
		return "Permanent Redirect"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 402:
		return "Payment Required"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 406:
		return "Not Acceptable"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 409:
		return "Conflict"
	case 410:
		return "Gone"
	case 411:
		return "Length Required"
	case 412:
		return "Precondition Failed"
	case 413:
		return "Content Too Large"
	case 414:
		return "URI Too Long"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Range Not Satisfiable"
	case 417:
		return "Expectation Failed"
	case 421:
		return "Misdirected Request"
	case 422:
		return "Unprocessable Content"
	case 426:
		return "Upgrade Required"
	case 428:
		return "Precondition Required"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 451:
		return "Unavailable For Legal Reasons"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	}
	return ""
}
