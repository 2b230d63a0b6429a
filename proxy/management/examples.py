"""Examples of bodies and answers, by the name of their shape, for the OpenAPI document. A test validates each one."""

from __future__ import annotations

from typing import Any

_MOMENT = "2026-01-16T00:00:00.000Z"
_NEXT_MONTH = "2026-02-01T00:00:00.000Z"

_PLAN: dict[str, Any] = {
    "id": "pro-monthly",
    "planId": "pro-monthly",
    "version": 1,
    "tier": "pro",
    "name": "Pro Monthly",
    "description": "Perfect for professionals and agencies",
    "price": 299000,
    "currency": "IDR",
    "billingCycle": "monthly",
    "dailyQuota": 100,
    "monthlyQuota": 3000,
    "trialDays": None,
    "quotaTimeZone": "UTC",
    "quotaDayStarts": "00:00",
    "quotaMonth": "calendar",
    "dailyRollover": 20,
    "monthlyRollover": 0,
    "maxModelTier": "pro",
    "features": '{"proModels":true,"prioritySupport":true}',
    "createdAt": "2025-12-01T00:00:00.000Z",
}
_ON_SALE = _PLAN | {"isActive": True, "displayOrder": 2}

_PAYMENT: dict[str, Any] = {
    "amount": 299000,
    "currency": "IDR",
    "dueBy": _MOMENT,
    "reference": "subscription-17",
    "how": "Pay the operator of this service, naming subscription-17; it takes effect when the payment is confirmed.",
}

_SUBSCRIPTION: dict[str, Any] = {
    "id": "17",
    "planId": "pro-monthly",
    "status": "active",
    "startDate": "2026-01-15T09:30:00.000Z",
    "endDate": "2026-02-15T09:30:00.000Z",
    "billingCycle": "monthly",
    "autoRenew": True,
    "nextBillingDate": "2026-02-15T09:30:00.000Z",
    "nextAmount": 299000,
    "credit": 0,
    "trialEnd": None,
    "graceUntil": None,
    "cancelAt": None,
    "cancelledAt": None,
    "cancelReason": None,
    "endedAt": None,
    "refundQuoted": 0,
    "createdAt": "2026-01-15T09:30:00.000Z",
    "payment": None,
    "pendingPlan": None,
    "scheduledPlan": None,
    "plan": _PLAN,
}
_INCOMPLETE = _SUBSCRIPTION | {
    "status": "incomplete",
    "nextBillingDate": None,
    "nextAmount": None,
    "payment": _PAYMENT,
}

_MODEL: dict[str, Any] = {
    "name": "Google Veo 2",
    "provider": "edenai",
    "tier": "basic",
    "creditCost": 10,
    "creditRates": {"duration_seconds": 2},
    "creditStep": 1,
    "quotaCost": 1,
    "modelKey": "video-generator:veo2",
    "appId": "video-generator",
    "modelId": "veo2",
    "description": "Advanced video generation with Veo 2",
    "beta": False,
}
_SUMMARY = {"name": "Google Veo 2", "provider": "edenai", "tier": "basic"}

_TRANSACTION: dict[str, Any] = {
    "id": "2",
    "amount": -5,
    "balance": 95,
    "type": "usage",
    "description": "video-generator:wan2.2",
    "referenceType": "usage",
    "referenceId": "0E5XK2M9S4Q7T",
    "createdAt": "2026-01-15T10:00:00.000Z",
}

_GRANT: dict[str, Any] = {
    "source": "bonus",
    "remaining": 95,
    "amount": 100,
    "description": "Welcome bonus",
    "expiresAt": None,
    "createdAt": "2026-01-15T09:00:00.000Z",
}

_USED: dict[str, Any] = {
    "calls": 3,
    "creditUsed": 0,
    "creditRefunded": 0,
    "quotaUsed": 3,
    "quotaRefunded": 1,
    "estimatedCalls": 0,
}

EXAMPLES: dict[str, Any] = {
    "SubscribeBody": {"planId": "pro-monthly"},
    "CancelBody": {"reason": "Too expensive", "immediately": False},
    "PreviewChangeBody": {"newPlanId": "enterprise-monthly"},
    "ChangePlanBody": {"newPlanId": "enterprise-monthly", "expectedAmount": 700000},
    "QuoteBody": {"modelKey": "video-generator:veo2", "units": {"duration_seconds": 8}},
    "QuotaCheckBody": {"modelKey": "video-generator:veo2"},
    "PlanList": {"plans": [_ON_SALE]},
    "PlainPlanList": [_ON_SALE | {"features": {"proModels": True, "prioritySupport": True}}],
    "SubscriptionStatus": {
        "subscription": _SUBSCRIPTION,
        "tier": "pro",
        "isActive": True,
        "accountType": "subscription",
    },
    "Subscribed": {
        "success": True,
        "message": "Subscription created; it starts when its payment is confirmed",
        "subscription": _INCOMPLETE,
        "payment": _PAYMENT,
    },
    "Cancelled": {
        "success": True,
        "message": "Subscription will remain active until end of billing period",
        "endDate": "2026-02-15T09:30:00.000Z",
        "unused": 0,
        "refund": 0,
        "currency": "IDR",
        "subscription": _SUBSCRIPTION | {"autoRenew": False, "cancelAt": "2026-02-15T09:30:00.000Z"},
    },
    "Resumed": {"success": True, "message": "Subscription goes on", "subscription": _SUBSCRIPTION},
    "PlanChangePreview": {
        "direction": "upgrade",
        "plan": _PLAN | {"id": "enterprise-monthly", "planId": "enterprise-monthly", "tier": "enterprise"},
        "amount": 700000,
        "currency": "IDR",
        "credit": 0,
        "appliesAt": None,
        "quotedUntil": "2026-01-15T10:30:00.000Z",
    },
    "PlanChanged": {
        "success": True,
        "message": "Plan changes at the end of the billing period",
        "direction": "downgrade",
        "appliesAt": "2026-02-15T09:30:00.000Z",
        "amount": 0,
        "currency": "IDR",
        "credit": 0,
        "payment": None,
        "subscription": _SUBSCRIPTION | {"scheduledPlan": _PLAN | {"id": "basic-monthly", "planId": "basic-monthly"}},
    },
    "PaymentList": {
        "payments": [
            {
                "id": "23",
                "subscriptionId": "17",
                "planId": "pro-monthly",
                "planVersion": 1,
                "purpose": "start",
                "amount": 299000,
                "currency": "IDR",
                "reference": "invoice-88",
                "createdAt": "2026-01-15T09:30:00.000Z",
            }
        ],
        "nextCursor": None,
    },
    "QuotaStatus": {
        "remaining": 117,
        "used": 3,
        "limit": 120,
        "carried": 20,
        "resetAt": _MOMENT,
        "timeZone": "UTC",
        "breakdown": {"video-generator:veo2": 3},
        "monthly": {"remaining": 2960, "used": 40, "limit": 3000, "carried": 0, "resetAt": _NEXT_MONTH},
        "note": None,
    },
    "QuotaHistory": {
        "history": [
            {
                "id": "daily-2026-01-15",
                "quotaType": "daily",
                "period": "2026-01-15",
                "usageCount": 3,
                "quotaLimit": 100,
                "modelBreakdown": '{"video-generator:veo2":3}',
                "resetAt": _MOMENT,
            }
        ]
    },
    "QuotaUsage": {
        "quotaType": "daily",
        "period": "2026-01-15",
        "usageCount": 3,
        "quotaLimit": 100,
        "remaining": 97,
        "modelBreakdown": {"video-generator:veo2": 3},
        "resetAt": _MOMENT,
    },
    "QuotaCheck": {"available": True, "remaining": 97, "quotaLimit": 100},
    "CreditBalance": {"balance": 95, "reserved": 0, "lastTransaction": _TRANSACTION, "grants": [_GRANT]},
    "CreditHistory": {"transactions": [_TRANSACTION], "nextCursor": "2"},
    "UsageHistory": {
        "usages": [
            {
                "id": "0E5XK2M9S4Q7T",
                "userId": "user-1001",
                "appId": "video-generator",
                "modelKey": "video-generator:veo2",
                "usageType": "quota",
                "creditUsed": None,
                "creditRefunded": None,
                "quotaUsed": 1,
                "quotaRefunded": 0,
                "action": "generate_video",
                "units": {"duration_seconds": "8"},
                "estimated": False,
                "createdAt": "2026-01-15T10:00:00.000Z",
                "model": _SUMMARY,
            }
        ],
        "nextCursor": None,
    },
    "UsageSummary": {
        "days": 30,
        "totals": _USED,
        "usage": [_USED | {"period": "2026-01-15", "appId": "video-generator", "modelKey": "video-generator:veo2"}],
    },
    "PopularModelList": {"models": [_SUMMARY | {"modelKey": "video-generator:veo2", "totalUsage": 1204}]},
    "AvailableModels": {
        "models": [
            _MODEL
            | {
                "accessible": False,
                "requiredTier": "basic",
                "reason": "This model requires basic tier or higher",
                "capabilities": {"maxDuration": 10},
            }
        ]
    },
    "AppList": {
        "apps": [
            {
                "appId": "video-generator",
                "name": "AI Video Generator",
                "description": "Generate videos from text prompts and images",
                "icon": "video",
                "version": "1.0.0",
                "routePrefix": "/api/apps/video-generator",
                "features": {"enabled": True, "beta": False, "comingSoon": False},
                "dashboard": {"order": 1, "color": "blue"},
                "order": 1,
                "color": "blue",
                "beta": False,
                "comingSoon": False,
                "availableModels": 2,
            }
        ]
    },
    "AppModels": {
        "models": [
            _MODEL
            | {
                "id": "video-generator:veo2",
                "enabled": True,
                "creditPerSecond": 2,
                "creditPerPixel": None,
                "capabilities": '{"maxDuration":10}',
            }
        ]
    },
    "QuoteAnswer": {
        "modelKey": "video-generator:veo2",
        "accessible": True,
        "allowed": True,
        "funding": "credits",
        "credits": 16,
        "quota": 1,
        "balance": 95,
        "quotaRemaining": None,
        "rule": "tier-models",
        "code": None,
        "reason": None,
        "requiredTier": None,
        "resetAt": None,
        "hint": None,
    },
}
