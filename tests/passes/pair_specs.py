"""Masked operators whose matrix doesn't factor into states: masks, biases, several reads, quotients, plain weights."""

QKV = "input q, k: K; input v: V"

PAIR_SPECS = {
    "causal": f"{QKV}\n y = softmax(q @ k.T / sqrt(size(K)), causal) @ v",
    "no mask": f"{QKV}\n y = softmax(q @ k.T / sqrt(size(K))) @ v",
    "window": f"{QKV}\n y = softmax(q @ k.T, window(5)) @ v",
    "window of one": f"{QKV}\n y = softmax(q @ k.T, window(1)) @ v",
    "both sides": f"{QKV}\n M[i, j] = where(abs(i - j) < 4, 1, 0)\n y = softmax(q @ k.T, M) @ v",
    "strictly past": f"{QKV}\n M[i, j] = where(j < i, 1, 0)\n y = softmax(q @ k.T, M) @ v",
    "only the future": f"{QKV}\n M[i, j] = where(i < j, 1, 0)\n y = softmax(q @ k.T, M) @ v",
    "globals": f"{QKV}\n M[i, j] = where(abs(i - j) < 3 or j <= 2 or i <= 2, 1, 0)\n y = softmax(q @ k.T, M) @ v",
    "segments": f"{QKV}; input s: scalar\n M[i, j] = where(s[i] == s[j] and j <= i, 1, 0)\n"
    " y = softmax(q @ k.T, M) @ v",
    "blocks": f"{QKV}\n M[i, j] = where(floor((i - 1) / 6) == floor((j - 1) / 6), 1, 0)\n y = softmax(q @ k.T, M) @ v",
    "slopes": f"{QKV}; param m: scalar\n D[i, j] = m * abs(i - j)\n y = softmax(q @ k.T - D, full) @ v",
    "decays": f"{QKV}; input g: scalar in [-inf, 0]\n D[i, j] = sum(m, j+1, i, g[m])\n"
    " y = softmax(q @ k.T + D, causal) @ v",
    "decays both ways": f"{QKV}; input g: scalar in [-inf, 0]\n"
    " D[i, j] = where(j <= i, sum(m, j+1, i, g[m]), sum(m, i+1, j, g[m]))\n y = softmax(q @ k.T + D, full) @ v",
    "preprocessed": f"{QKV}; param W: K, K\n y = softmax(l2norm(q @ W) @ rmsnorm(k).T, causal) @ silu(v)",
    "unit keys": f"{QKV}\n u = k / sqrt(sum(k * k, K))\n y = softmax(q @ u.T, full) @ (v / sum(v * v, V))",
    "delayed": f"{QKV}\n A[i, j] = q[i].T @ k[j-1]\n y = softmax(A, causal) @ v",
    "two heads in one": f"{QKV}; input r, s: K; param lam: scalar\n"
    " y = (softmax(q @ k.T, causal) - lam * softmax(r @ s.T, causal)) @ v",
    "two reads": f"{QKV}; input r: K\n y = softmax(q @ k.T, causal) @ v * tanh(softmax(r @ k.T, window(4)) @ v)",
    "quotient": f"{QKV}\n y = normalize(causal * exp(q @ k.T)) @ v",
    "dense": "input q, k, v: D; param w: T, T\n E = exp(w)\n y = sigmoid(q) * (E @ (exp(k) * v)) / (E @ exp(k))",
    "dense and causal": "input q, k, v: D; param w: T, T\n E = causal * exp(w)\n"
    " y = sigmoid(q) * ((E @ (exp(k) * v)) / (E @ exp(k)))",
    "dense bias": f"{QKV}; param w: T, T\n y = softmax(q @ k.T + w, causal) @ v",
    "plain weights": f"{QKV}\n M[i, j] = where(abs(i - j) < 4 or i <= 2, 1, 0)\n y = (M * tanh(q @ k.T)) @ v",
}


def text_of(name: str) -> str:
    """The spec of that name."""
    return f"mixer m\n {PAIR_SPECS[name]}\n"
