#!/bin/sh
# PID 1 of the container: a signal to it must end the server, so it stays and waits.
www=/app/www
: > /tmp/requests

write_metrics() {
    while :; do
        {
            echo '# HELP http_requests_total Requests to /cgi-bin/work answered.'
            echo '# TYPE http_requests_total counter'
            echo "http_requests_total $(wc -c < /tmp/requests)"
        } > /tmp/metrics.new && mv /tmp/metrics.new "$www/metrics"
        sleep 1
    done
}

write_metrics &
metrics=$!
httpd -f -p "${PORT:-8080}" -h "$www" &
server=$!
trap 'kill "$server" "$metrics"; exit 0' TERM INT
echo "web-app listens on port ${PORT:-8080}"
wait "$server"
