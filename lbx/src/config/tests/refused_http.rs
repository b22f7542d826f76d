//! Refusals of checks by HTTP, word for word.

use super::assert_health_refused;

#[test]
fn requests() {
    assert_health_refused(&[
        (
            "{http: {method: get}}",
            "lb.yaml:8:29: services[0].health.http.method: unknown method \"get\": use GET, HEAD, OPTIONS or POST",
        ),
        (
            "{http: {method: PUT}}",
            "lb.yaml:8:29: services[0].health.http.method: unknown method \"PUT\": use GET, HEAD, OPTIONS or POST",
        ),
        (
            "{http: {method: 1}}",
            "lb.yaml:8:29: services[0].health.http.method: 1 is not a method: use GET, HEAD, OPTIONS or POST",
        ),
        (
            "{http: {path: healthz}}",
            "lb.yaml:8:27: services[0].health.http.path: \"healthz\" is not a path: use 1 to 2048 bytes that begin with /, of printable ASCII without space or #",
        ),
        (
            "{http: {path: \"/a b\"}}",
            "lb.yaml:8:27: services[0].health.http.path: \"/a b\" is not a path: use 1 to 2048 bytes that begin with /, of printable ASCII without space or #",
        ),
        (
            "{http: {path: \"/é\"}}",
            "lb.yaml:8:27: services[0].health.http.path: \"/é\" is not a path: use 1 to 2048 bytes that begin with /, of printable ASCII without space or #",
        ),
        (
            "{http: {path: \"/a#b\"}}",
            "lb.yaml:8:27: services[0].health.http.path: \"/a#b\" is not a path: use 1 to 2048 bytes that begin with /, of printable ASCII without space or #",
        ),
        (
            "{http: {host: \"a b\"}}",
            "lb.yaml:8:27: services[0].health.http.host: \"a b\" is not a host: use 1 to 259 bytes like example.org, example.org:8080, 192.0.2.1 or [2001:db8::1]",
        ),
        (
            "{http: {host: \"http://a\"}}",
            "lb.yaml:8:27: services[0].health.http.host: \"http://a\" is not a host: use 1 to 259 bytes like example.org, example.org:8080, 192.0.2.1 or [2001:db8::1]",
        ),
        (
            "{http: {host: \"a:99999\"}}",
            "lb.yaml:8:27: services[0].health.http.host: \"a:99999\" is not a host: use 1 to 259 bytes like example.org, example.org:8080, 192.0.2.1 or [2001:db8::1]",
        ),
        (
            "{http: {host: \"[::1\"}}",
            "lb.yaml:8:27: services[0].health.http.host: \"[::1\" is not a host: use 1 to 259 bytes like example.org, example.org:8080, 192.0.2.1 or [2001:db8::1]",
        ),
        (
            "{http: {host: \"2001:db8::1\"}}",
            "lb.yaml:8:27: services[0].health.http.host: \"2001:db8::1\" is not a host: use 1 to 259 bytes like example.org, example.org:8080, 192.0.2.1 or [2001:db8::1]",
        ),
        (
            "{http: {host: 5}}",
            "lb.yaml:8:27: services[0].health.http.host: 5 is not a host: to use it as one, put it in quotes",
        ),
        (
            "{http: {headers: [A]}}",
            "lb.yaml:8:30: services[0].health.http.headers: a list is not a mapping: give headers with their values",
        ),
        (
            "{http: {headers: {\"A B\": c}}}",
            "lb.yaml:8:31: services[0].health.http.headers.\"A B\": \"A B\" is not the name of a header: use 1 to 128 bytes of letters, digits, - and _",
        ),
        (
            "{http: {headers: {A: \"b\\r\\nc\"}}}",
            "lb.yaml:8:34: services[0].health.http.headers.A: \"b\\r\\nc\" is not the value of a header: use 0 to 4096 bytes of printable ASCII without spaces at the ends",
        ),
        (
            "{http: {headers: {A: 5}}}",
            "lb.yaml:8:34: services[0].health.http.headers.A: 5 is not the value of a header: to use it as one, put it in quotes",
        ),
        (
            "{http: {headers: {A: b, a: c}}}",
            "lb.yaml:8:37: services[0].health.http.headers.a: \"a\" is already services[0].health.http.headers.A (line 8)",
        ),
        (
            "{http: {headers: {host: b}}}",
            "lb.yaml:8:31: services[0].health.http.headers.host: give it as host, beside headers",
        ),
        (
            "{http: {headers: {content-length: b}}}",
            "lb.yaml:8:31: services[0].health.http.headers.content-length: lbx sends Content-Length as the request needs it: leave it out",
        ),
        (
            "{http: {server_name: a}}",
            "lb.yaml:8:21: services[0].health.http.server_name: unknown field: known here are method, path, host, headers, status, body, weight",
        ),
        (
            "{http: {weight: 1}}",
            "lb.yaml:8:29: services[0].health.http.weight: 1 is not a boolean: use true or false",
        ),
    ]);
}

#[test]
fn answers() {
    assert_health_refused(&[
        (
            "{http: {status: 99}}",
            "lb.yaml:8:29: services[0].health.http.status: 99 is not a status code: use 100 to 599, or a range like \"200-299\"",
        ),
        (
            "{http: {status: 600}}",
            "lb.yaml:8:29: services[0].health.http.status: 600 is not a status code: use 100 to 599, or a range like \"200-299\"",
        ),
        (
            "{http: {status: []}}",
            "lb.yaml:8:29: services[0].health.http.status: the list is empty: give at least one status code",
        ),
        (
            "{http: {status: \"300-200\"}}",
            "lb.yaml:8:29: services[0].health.http.status: \"300-200\" is not a range of status codes: write it as 200-300",
        ),
        (
            "{http: {status: [200, 3xx]}}",
            "lb.yaml:8:35: services[0].health.http.status[1]: \"3xx\" is not a status code: use 100 to 599, or a range like \"200-299\"",
        ),
        (
            "{http: {status: ok}}",
            "lb.yaml:8:29: services[0].health.http.status: \"ok\" is not a status code: use 100 to 599, or a range like \"200-299\"",
        ),
        (
            "{http: {body: ok}}",
            "lb.yaml:8:27: services[0].health.http.body: \"ok\" is not a mapping: use the fields matches, sha256, md5",
        ),
        (
            "{http: {body: {}}}",
            "lb.yaml:8:27: services[0].health.http.body: does not say what the body must contain or be: use one of matches, sha256, md5",
        ),
        (
            "{http: {body: {matches: a, md5: b}}}",
            "lb.yaml:8:45: services[0].health.http.body.md5: says what the body must contain or be, and so does services[0].health.http.body.matches (line 8): leave one of them out",
        ),
        (
            "{http: {body: {matches: \"a(\"}}}",
            "lb.yaml:8:37: services[0].health.http.body.matches: \"a(\" is not a regular expression: unclosed group",
        ),
        (
            "{http: {body: {matches: \"a{1000}{1000}{1000}\"}}}",
            "lb.yaml:8:37: services[0].health.http.body.matches: \"a{1000}{1000}{1000}\" is not a regular expression: Compiled regex exceeds size limit of 10485760 bytes.",
        ),
        (
            "{http: {body: {matches: 5}}}",
            "lb.yaml:8:37: services[0].health.http.body.matches: 5 is not a regular expression: to use it as one, put it in quotes",
        ),
        (
            "{http: {body: {sha256: \"00\"}}}",
            "lb.yaml:8:36: services[0].health.http.body.sha256: \"00\" is not a SHA-256 digest: use 32 bytes of two hexadecimal digits each",
        ),
        (
            "{http: {body: {md5: \"0123456789abcdef0123456789abcdeg\"}}}",
            "lb.yaml:8:33: services[0].health.http.body.md5: \"0123456789abcdef0123456789abcdeg\" is not an MD5 digest: use 16 bytes of two hexadecimal digits each",
        ),
        (
            "{http: {body: {md5: 12345678901234567890123456789012}}}",
            "lb.yaml:8:33: services[0].health.http.body.md5: 1.2345678901234567e31 is not an MD5 digest: to use it as one, put it in quotes",
        ),
        (
            "{http: {method: HEAD, body: {matches: a}}}",
            "lb.yaml:8:41: services[0].health.http.body: needs a body, and the answer to HEAD has none: use GET",
        ),
        (
            "{http: {method: HEAD, weight: true}}",
            "lb.yaml:8:43: services[0].health.http.weight: needs a body, and the answer to HEAD has none: use GET",
        ),
    ]);
}

#[test]
fn tls() {
    assert_health_refused(&[
        (
            "{https: {server_name: \"a:443\"}}",
            "lb.yaml:8:35: services[0].health.https.server_name: \"a:443\" is not a server name: use 1 to 259 bytes like example.org or 192.0.2.1, without a port",
        ),
        (
            "{https: {server_name: \"-a\"}}",
            "lb.yaml:8:35: services[0].health.https.server_name: \"-a\" is not a server name: use 1 to 259 bytes like example.org or 192.0.2.1, without a port",
        ),
        (
            "{https: {verify: off}}",
            "lb.yaml:8:30: services[0].health.https.verify: \"off\" is not a boolean: use true or false",
        ),
        (
            "{https: {verify: false, authorities: ca.pem}}",
            "lb.yaml:8:50: services[0].health.https.authorities: needs verify: true: leave one of them out",
        ),
        (
            "{https: {authorities: no-such.pem}}",
            "lb.yaml:8:35: services[0].health.https.authorities: no-such.pem: cannot be read: No such file or directory (os error 2): name a PEM file",
        ),
        (
            "{https: {authorities: \"\"}}",
            "lb.yaml:8:35: services[0].health.https.authorities: \"\" is not a file name: use 1 to 4095 bytes without control characters",
        ),
        (
            "{https: {sni: a}}",
            "lb.yaml:8:22: services[0].health.https.sni: unknown field: known here are method, path, host, headers, status, body, weight, server_name, verify, authorities",
        ),
    ]);
}
