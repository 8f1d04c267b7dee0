"""Specs whose states hold values of earlier states: bodies below the common inputs of `oracle_checks`."""

STAGED = {
    "a query that holds a read": """
        state A: K, N
        state C: N, V
        A[t] = exp(g[t]) * A[t-1] + k[t] @ (W @ q[t]).T
        C[t] = exp(g[t]) * C[t-1] + (W @ k[t]) @ v[t].T
        y[t] = C[t].T @ softmax(q[t].T @ A[t]).T
    """,
    "a write that holds a read": """
        state S, P: K, V
        S[t] = exp(g[t]) * S[t-1] + k[t] @ v[t].T
        P[t] = exp(gk[t]) * P[t-1] + k2[t] @ tanh(S[t-1].T @ k2[t]).T
        y[t] = P[t].T @ q[t] + S[t].T @ q[t]
    """,
    "three stages": """
        state S, P, Q: K, V
        S[t] = S[t-1] + k[t] @ v[t].T
        P[t] = exp(g[t]) * P[t-1] + k[t] @ tanh(S[t].T @ k2[t]).T
        Q[t] = Q[t-1] + k2[t] @ (v[t] - P[t].T @ k[t] / (1 + t2[t]**2)).T
        y[t] = Q[t].T @ q[t] + S[t-1].T @ q[t]
    """,
    "a decay that holds a read": """
        state z: K
        state S: K, V
        z[t] = exp(g[t]) * z[t-1] + k[t]
        S[t] = sigmoid(z[t].T @ q[t]) * S[t-1] + k[t] @ v[t].T
        y[t] = S[t].T @ q[t]
    """,
    "an erase that holds a read": """
        state z: K
        state S: K, V
        z[t] = exp(gk[t]) * z[t-1] + k[t]
        R = exp(g[t]) * S[t-1]
        S[t] = R + k[t] @ (beta[t] * (v[t] - R.T @ l2norm(z[t]))).T
        y[t] = S[t].T @ q[t]
    """,
    "one state read with its own read": """
        state S: K, K
        S[t] = exp(g[t]) * S[t-1] + k[t] @ k2[t].T
        y[t] = (S[t].T @ (S[t-1].T @ q[t])).T @ ones(K) * v[t]
    """,
    "backward after forward": """
        state S, B: K, V
        S[t] = exp(g[t]) * S[t-1] + k[t] @ v[t].T
        B[t] = exp(g[t]) * B[t+1] + k2[t] @ tanh(S[t].T @ q[t]).T
        y[t] = B[t].T @ q[t]
    """,
    "forward after backward after forward": """
        state S, B, P: K, V
        S[t] = S[t-1] + k[t] @ v[t].T
        B[t] = exp(g[t]) * B[t+1] + k2[t] @ tanh(S[t].T @ q[t]).T
        P[t] = exp(g[t]) * P[t-1] + k[t] @ tanh(B[t+1].T @ q[t]).T
        y[t] = P[t].T @ q[t]
    """,
    "decays from a logarithmic sum": """
        state l: K = -inf
        state S: K, V
        l[t] = logaddexp(l[t-1], k2[t])
        S[t] = exp(l[t-1] - l[t]) * S[t-1] + exp(k2[t] - l[t]) @ v[t].T
        y[t] = S[t].T @ q[t]
    """,
    "a maximum as stabiliser": """
        state m: scalar = -inf
        state S: K, V
        state z: K
        m[t] = max(g[t] + m[t-1], w[t])
        S[t] = exp(g[t] + m[t-1] - m[t]) * S[t-1] + exp(w[t] - m[t]) * k[t] @ v[t].T
        z[t] = exp(g[t] + m[t-1] - m[t]) * z[t-1] + exp(w[t] - m[t]) * k[t]
        y[t] = S[t].T @ q[t] / max(abs(z[t].T @ q[t]), exp(-m[t]))
    """,
    "a maximum over reads": """
        state S: K, V
        state m: V
        S[t] = exp(g[t]) * S[t-1] + k[t] @ v[t].T
        m[t] = max(m[t-1] + gv[t], S[t].T @ q[t])
        y[t] = m[t] + m[t-1]
    """,
    "a backward maximum": """
        state m: V
        state B: K, V
        m[t] = max(m[t+1] + gv[t], v[t])
        B[t] = exp(g[t]) * B[t+1] + k[t] @ (m[t+1] - m[t]).T
        y[t] = B[t].T @ q[t] + m[t]
    """,
    "momentum": """
        state M, S: K, V
        M[t] = lam[t] * M[t-1] + k[t] @ v[t].T
        S[t] = exp(g[t]) * S[t-1] + beta[t] * M[t]
        y[t] = S[t].T @ q[t]
    """,
    "momentum of the step before, with a sign": """
        state M, S: K, V
        M[t] = w[t] * M[t-1] + k[t] @ v[t].T
        S[t] = exp(g[t]) * S[t-1] - lam[t] * M[t-1] + k2[t] @ v[t].T
        y[t] = S[t-1].T @ q[t] + M[t].T @ k[t]
    """,
    "momentum in three levels": """
        state L, M, S: K, V
        L[t] = lam[t] * L[t-1] + k[t] @ v[t].T
        M[t] = w[t] * M[t-1] + beta[t] * L[t-1]
        S[t] = exp(g[t]) * S[t-1] + M[t] + L[t]
        y[t] = S[t].T @ q[t]
    """,
    "momentum of a delta rule": """
        state M, S: K, V
        M[t] = lam[t] * M[t-1] + k[t] @ (beta[t] * (v[t] - M[t-1].T @ k[t])).T
        S[t] = exp(g[t]) * S[t-1] + M[t]
        y[t] = S[t].T @ q[t]
    """,
    "an erase beside momentum": """
        state M, S: K, V
        M[t] = lam[t] * M[t-1] + k[t] @ v[t].T
        R = exp(g[t]) * S[t-1]
        S[t] = R - beta[t] * k[t] @ (R.T @ k[t]).T + M[t-1]
        y[t] = S[t].T @ q[t]
    """,
    "momentum, backward and transposed": """
        state M, S: V, K
        M[t] = lam[t] * M[t+1] + v[t] @ k[t].T
        S[t] = exp(g[t]) * S[t+1] + M[t+1]
        y[t] = S[t] @ q[t]
    """,
    "a backward state drives a forward one": """
        state M: K, V
        state S: V, K
        M[t] = lam[t] * M[t+1] + k[t] @ v[t].T
        S[t] = exp(g[t]) * S[t-1] + M[t+1].T
        y[t] = S[t] @ q[t]
    """,
    "momentum of vectors": """
        state m, z: K
        m[t] = exp(gk[t]) * m[t-1] + k[t]
        z[t] = exp(g[t]) * z[t-1] + lam[t] * m[t]
        y[t] = (z[t].T @ q[t]) * v[t]
    """,
    "quasiseparable": """
        state F, B: K, V
        F[t] = exp(g[t]) * F[t-1] + k[t] @ v[t].T
        B[t] = exp(g[t]) * B[t+1] + k2[t] @ v[t].T
        y[t] = (F[t-1] + B[t+1]).T @ q[t] + w[t] * v[t]
    """,
}
HEAD = "  param W: N, K\n  input t2: scalar\n"


def body(name: str) -> str:
    """The spec's text below the common inputs."""
    return HEAD + STAGED[name]
