"""Who sees whom: the mask table, once, for training and inference.

======================  ============  =============  =========  =========  ===========  =====
query \\ key             earlier text  earlier clean  own noisy  own clean  other noisy  later
======================  ============  =============  =========  =========  ===========  =====
text token              and itself    yes            no         no         no           no
noisy copy of chunk i   yes           yes            both ways  no         no           no
clean copy of chunk i   yes           yes            no         both ways  no           no
======================  ============  =============  =========  =========  ===========  =====

All of it inside one document. In metadata (`training.rows.TokenMeta`) the table is two lines: a
key is seen when it lasts (copy 0) and stands earlier, or when it is of the query's own place *and*
copy. A text token is alone in its place, so that it sees itself; a chunk's tokens share theirs, so
that they see each other both ways, copy by copy. The start frame is a clean chunk. Padding has copy
-1 and a place of its own, so that it sees itself only and nothing sees it.
"""

from torch import Tensor

from training.rows import TokenMeta


def allowed(query: TokenMeta, key: TokenMeta) -> Tensor:
    """The table for all pairs: bool (B, Q, K) from metadata of (B, Q) and (B, K) tokens."""
    document_q, order_q, copy_q = (x[:, :, None] for x in (query.document, query.order, query.copy))
    document_k, order_k, copy_k = (x[:, None, :] for x in (key.document, key.order, key.copy))
    earlier = (copy_k == 0) & (order_k < order_q)
    own = (order_k == order_q) & (copy_k == copy_q)
    return (document_q == document_k) & (earlier | own)
