#!/bin/sh
# Burns CPU: so many rounds of the shell's arithmetic (?rounds=N, at most 1 000 000), then says which pod did it.
rounds=${QUERY_STRING#rounds=}
case $rounds in '' | *[!0-9]* | ????????*) rounds=6000 ;; esac
i=0
while [ "$i" -lt "$rounds" ] && [ "$i" -lt 1000000 ]; do i=$((i + 1)); done
# one byte a request: appending is atomic, so requests at the same time are all counted
printf . >> /tmp/requests
printf 'Content-Type: text/plain\r\n\r\n%s did %s rounds\n' "$(hostname)" "$i"
