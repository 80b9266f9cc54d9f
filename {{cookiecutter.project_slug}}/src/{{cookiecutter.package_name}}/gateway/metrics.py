"""What a gateway counts besides the library's `gateway_handshakes` and `gateway_tunnels`."""

from prometheus_client import Counter, Gauge

LOGINS = Counter(
    "gateway_logins",
    "Logins by result (ok, wrong, busy). Many wrong: somebody tries passwords; busy: more logins at once than may wait "
    "for a thread, add gateways or CHAT_PASSWORD_THREADS.",
    ["result"],
)
SIGN_UPS = Counter(
    "gateway_sign_ups",
    "Sign-ups by result (created, taken, busy). A storm of created: somebody makes accounts by machine.",
    ["result"],
)
STORE_FAILURES = Counter(
    "gateway_user_store_failures",
    "Requests answered with 503 because Redis did not answer. People who hold a token still connect; look at Redis.",
)
PUBLISHED = Counter(
    "gateway_published",
    "Messages that services published over HTTP, by result (stored, failed). failed: Redis is slow or gone; the "
    "services were told, and should send the same again, with keys.",
    ["result"],
)
PASSWORDS_PENDING = Gauge(
    "gateway_passwords_pending",
    "Passwords that are hashed or wait for it. Steady above CHAT_PASSWORD_THREADS: logins get slow, add gateways.",
)

for _result in ("stored", "failed"):
    PUBLISHED.labels(_result)
for _result in ("ok", "wrong", "busy"):
    LOGINS.labels(_result)
for _result in ("created", "taken", "busy"):
    SIGN_UPS.labels(_result)
