"""Specs that between them use every operation, layout and kind of state that a kernel can meet."""

RECURRENT = """mixer recurrent
  input x: D
  param W, U: D, D
  param c: D
  state h: D
  h[t] = tanh(W @ x[t] + U @ h[t-1] + c)
  y[t] = h[t]
"""

SCALARS = """mixer scalars
  input a: scalar in [-inf, 0]
  input x: scalar
  state s: scalar
  state m: scalar = -inf
  s[t] = exp(a[t]) * s[t-1] + x[t]
  m[t] = max(m[t-1], x[t])
  y[t] = s[t] + m[t]
"""

LOG_SUMS = """mixer log_sums
  input s: M
  input v: V
  state l: M = -inf
  state S: M, V
  l[t] = logaddexp(l[t-1], s[t])
  S[t] = diag(exp(l[t-1] - l[t])) @ S[t-1] + exp(s[t] - l[t]) @ v[t].T
  y[t] = S[t].T @ softmax(s[t].T).T
"""

ELEMENTWISE = """mixer elementwise
  input u: D
  input delta: D in [0, 1]
  input B, C: N
  param A: D, N in [-8, 0]
  param D: D
  state x: D, N
  x[t] = exp(delta[t] * A) * x[t-1] + (delta[t] * u[t]) @ B[t].T
  y[t] = x[t] @ C[t] + D * u[t]
"""

ROTATIONS = """mixer rotations
  input k: K
  input v: V
  input w: K/2
  state S: K, V
  S[t] = rot(w[t]) @ S[t-1] + k[t] @ v[t].T
  y[t] = S[t].T @ (rot(w[t]) @ k[t])
"""

FUNCTIONS = """mixer functions
  input q, k: K
  input v: V
  input g: scalar
  state S: K, V
  S[t] = sigmoid(g[t]) * S[t-1] + softplus(k[t]) @ silu(v[t]).T
  y[t] = (relu(S[t].T @ elu(q[t])) + abs(v[t]) ** 1.5 + sin(v[t]) * cos(v[t]) - sqrt(abs(v[t])) + min(v[t], 0.3)
       + logsigmoid(v[t]) + where(v[t] > 0 and v[t] < 1, v[t], 2) + l2norm(v[t]) + rmsnorm(v[t]) + tanh(v[t])
       + v[t] ** 3 + (1 + v[t] ** 2) ** (-1))
"""

SHIFTED = """mixer shifted
  input q, k: K
  input v: V
  input g: scalar in [-inf, 0]
  state F, L: K, V
  F[t] = exp(g[t-1]) * F[t-1] + k[t-1] @ v[t].T
  L[t] = exp(g[t+2]) * L[t+1] + k[t+1] @ v[t-3].T
  y[t] = (F[t] + L[t]).T @ q[t+1] + v[t-2]
"""

VALUES_FIRST = """mixer values_first
  input q, k: K
  input v: V
  input g: scalar in [-inf, 0]
  state S: V, K
  S[t] = exp(g[t]) * S[t-1] + v[t] @ k[t].T
  y[t] = S[t] @ q[t]
"""

WINDOW = """mixer windowed
  input q, k: K
  input v: V
  y = (window(4) * (q @ k.T)) @ v
"""

TWO_STEPS = """mixer two_steps
  input q, k, l: K
  input v, w: V
  input b, c: scalar in [0, 1]
  input g: K in [-inf, 0]
  state S: K, V
  R = diag(exp(g[t])) @ S[t-1]
  P = R + k[t] @ (b[t] * (v[t] - R.T @ k[t])).T
  S[t] = P + l[t] @ (c[t] * (w[t] - P.T @ l[t])).T
  y[t] = S[t].T @ q[t]
"""

SIGNED = """mixer signed
  input q, k: K
  input v: V
  input a: scalar in [-1, 1]
  state S: K, V
  S[t] = a[t] * S[t-1] + k[t] @ v[t].T
  y[t] = S[t].T @ q[t]
"""

MATRIX_OUTPUT = """mixer matrix_output
  input k: K
  input v: V
  state S: K, V
  S[t] = 0.9 * S[t-1] + k[t] @ v[t].T
  y[t] = S[t]
"""

# Every name here is also one that printed kernels or launchers use themselves.
CLASHING_NAMES = """mixer clashing_names
  input batch, head: K
  input time: V
  input options: scalar in [-inf, 0]
  param tl: K
  state program: K, V
  program[t] = exp(options[t]) * program[t-1] + (tl * head[t]) @ time[t].T
  y[t] = program[t].T @ batch[t]
"""

# What one state reads is written into the next one: of both chunks of a pair.
STAGED = """mixer staged
  input q, k: K
  input v: V
  input g: scalar in [-inf, 0]
  state S, P: K, V
  S[t] = exp(g[t]) * S[t-1] + k[t] @ v[t].T
  P[t] = exp(g[t]) * P[t-1] + q[t] @ tanh(S[t-1].T @ k[t]).T
  y[t] = P[t].T @ q[t]
"""

TWO_WAY = """mixer two_way
  input x: D
  input g: D in [0, 1]
  state f, b: D
  f[t] = g[t] * f[t-1] + x[t]
  b[t] = g[t] * b[t+1] + f[t]
  y[t] = sigmoid(f[t]) * b[t]
"""

SPECS = {
    "staged": STAGED,
    "recurrent": RECURRENT,
    "scalars": SCALARS,
    "log_sums": LOG_SUMS,
    "elementwise": ELEMENTWISE,
    "rotations": ROTATIONS,
    "functions": FUNCTIONS,
    "shifted": SHIFTED,
    "values_first": VALUES_FIRST,
    "windowed": WINDOW,
    "two_steps": TWO_STEPS,
    "signed": SIGNED,
    "matrix_output": MATRIX_OUTPUT,
    "clashing_names": CLASHING_NAMES,
    "two_way": TWO_WAY,
}
