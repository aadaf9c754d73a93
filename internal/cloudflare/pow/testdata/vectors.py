"""Writes vectors.json: the proof of work by Python's hashlib, from the description alone."""
import base64, hashlib, json

def h(b):
    return hashlib.sha256(b).digest()

rows = []
for seed, k, g in [
    (bytes(32), 1, 1),
    (bytes(range(32)), 3, 5),
    (bytes([0xFF]) * 32, 7, 1),
    (h(b"hourglass"), 1, 1000),
    (h(b"vector"), 16, 257),
    (h(b"across the context check"), 2, 40000),
    (h(b"live"), 1000, 2000),
]:
    state = h(seed)
    points = [state]
    for _ in range(k):
        for _ in range(g):
            state = h(state)
        points.append(state)
    raw = b"".join(points)
    row = {"seed": seed.hex(), "k": k, "g": g, "length": len(raw), "sha256": h(raw).hex(), "last": state.hex()}
    if len(raw) <= 1024:
        row["checkpoints"] = base64.b64encode(raw).decode()
    rows.append(row)
print(json.dumps(rows, indent=1))
