"""The words of the dialect: message types, codes and tags by name. docs/iso8583.md says what each means."""

from typing import Final


class Mti:
    """Message types. The answer to each is in ANSWERS."""

    AUTHORIZATION: Final = "0100"
    AUTHORIZATION_ADVICE: Final = "0120"
    PURCHASE: Final = "0200"  # with processing code 20: a refund
    CAPTURE: Final = "0220"
    VOID: Final = "0400"
    REVERSAL: Final = "0420"
    REVERSAL_REPEAT: Final = "0421"
    INQUIRY: Final = "0600"
    NETWORK: Final = "0800"

    ANSWERS: Final = {
        AUTHORIZATION: "0110",
        AUTHORIZATION_ADVICE: "0130",
        PURCHASE: "0210",
        CAPTURE: "0230",
        VOID: "0410",
        REVERSAL: "0430",
        REVERSAL_REPEAT: "0430",
        INQUIRY: "0610",
        NETWORK: "0810",
    }


class Processing:
    """DE 3, processing codes."""

    PURCHASE: Final = "000000"
    REFUND: Final = "200000"
    AUTHENTICATION: Final = "330000"


class Network:
    """DE 70, network management codes."""

    SIGN_ON: Final = "001"
    SIGN_OFF: Final = "002"
    ECHO: Final = "301"


class Code:
    """DE 39, response codes."""

    APPROVED: Final = "00"
    DO_NOT_HONOR: Final = "05"
    PROCESSING_ERROR: Final = "06"
    IN_PROGRESS: Final = "09"
    INVALID_TRANSACTION: Final = "12"
    INVALID_AMOUNT: Final = "13"
    UNKNOWN_CARD: Final = "14"
    NOT_UNDONE: Final = "21"
    NOT_FOUND: Final = "25"
    FORMAT_ERROR: Final = "30"
    LOST_CARD: Final = "41"
    STOLEN_CARD: Final = "43"
    INSUFFICIENT_FUNDS: Final = "51"
    EXPIRED_CARD: Final = "54"
    LIMIT_EXCEEDED: Final = "61"
    WRONG_PROOF: Final = "63"
    WANTS_AUTHENTICATION: Final = "65"
    INCONSISTENT: Final = "77"
    ALREADY_REVERSED: Final = "79"
    ISSUER_UNAVAILABLE: Final = "91"
    DUPLICATE: Final = "94"
    SYSTEM_ERROR: Final = "96"
    WRONG_CVC: Final = "N7"


class Tag:
    """DE 48, tags. The first block travels in requests, the second in answers."""

    PSP_KEY: Final = "KY"
    CVC: Final = "CV"
    ORIGINAL: Final = "OR"
    POSTAL_CODE: Final = "ZP"
    # The proof of an authentication: in the answer that gives it, and in the authorization that carries it.
    AUTHENTICATION: Final = "S3"
    # "1": the merchant wants the buyer to be challenged.
    WANTS_CHALLENGE: Final = "SW"
    # Where the issuer's challenge page sends the buyer back to.
    RETURNS_TO: Final = "SN"
    # "1": the merchant charges a card on file, the buyer is not there.
    MERCHANT_INITIATED: Final = "MI"

    TRANSACTION_ID: Final = "TX"
    AVAILABLE: Final = "AV"
    ADVICE: Final = "AC"
    SOFT_DECLINE: Final = "SC"
    CVC_CHECK: Final = "CC"
    POSTAL_CODE_CHECK: Final = "CA"
    ORIGINAL_CODE: Final = "RS"
    STATE: Final = "SS"
    KIND: Final = "KD"
    FOLLOW_UP: Final = "FU"
    AUTHENTICATION_RESULT: Final = "SR"
    COMMERCE_INDICATOR: Final = "EC"
    CHALLENGE_URL: Final = "SU"
    # "1": the buyer was challenged.
    CHALLENGED: Final = "SH"


class State:
    """DE 48 tag SS of a 0610: what has become of the operation that was asked about."""

    APPROVED: Final = "approved"
    DECLINED: Final = "declined"
    IN_PROGRESS: Final = "in_progress"
    REVERSED: Final = "reversed"
    RETURNED: Final = "returned"


class Authenticated:
    """DE 48 tag SR: what came of an authentication, in the letters of 3-D Secure where it has some."""

    PASSED: Final = "Y"
    ATTEMPTED: Final = "A"  # the issuer does not take part, or could not; the scheme answers for it
    CHALLENGE: Final = "C"  # the buyer must answer the issuer at the address in SU
    FAILED: Final = "N"
    UNAVAILABLE: Final = "U"
    NOT_SUPPORTED: Final = "X"


class Checked:
    """DE 48 tags CC and CA: the issuer's verdict on what was entered."""

    PASS: Final = "P"  # noqa: S105 - a verdict, no password
    FAIL: Final = "F"
    UNAVAILABLE: Final = "U"
    NOT_GIVEN: Final = "N"
